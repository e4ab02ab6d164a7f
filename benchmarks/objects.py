"""How the default extractor's objects agree with those that CHAIR finds, on captions of anybody's.

    python -m benchmarks.objects CAPTIONS [CAPTIONS ...]

A file is JSON lines (`caption`, or `captions` with several) or lines `image ### text`; brackets that people
set around objects are taken out. Printed for each file, by CHAIR's word table as this project has it: the
mentions that an extracted object covers, and the same for words counted once a caption; of the covered ones
how many stand in an object whose last word has CHAIR's category; of all objects the share that holds one of
CHAIR's; and captions a second.
"""

import argparse
import re
import time
from pathlib import Path

from sare_jax.curation.objects import find_objects, load_tagger
from sare_jax.language.words import categories_in
from sare_jax.records.texts import read_records


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.objects",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("captions", nargs="+", type=Path)
    nlp = load_tagger()
    for path in parser.parse_args(argv).captions:
        texts = captions_of(path)
        start = time.perf_counter()
        objects = list(find_objects(texts, nlp))
        seconds = time.perf_counter() - start
        print(f"{path.name}: {len(texts)} captions, {len(texts) / seconds:.0f} a second")
        report(texts, objects)


def captions_of(path: Path) -> list[str]:
    records, _ = read_records(path)
    texts = [text for record in records for text in record.get("captions") or [record["caption"]]]
    return [re.sub(r"[\[\]{}]", "", text) for text in texts]


def report(texts: list[str], objects: list[tuple]) -> None:
    mentions = covered = alike = words = words_covered = known = 0
    for text, ours in zip(texts, objects, strict=True):
        seen: dict[str, bool] = {}
        for theirs in categories_in(text):
            around = [m for m in ours if m.start <= theirs.start and theirs.end <= m.end]
            last = categories_in(text[around[0].start : around[0].end]) if around else []
            mentions, covered = mentions + 1, covered + bool(around)
            alike += bool(last) and last[-1].category == theirs.category
            seen[theirs.word] = seen.get(theirs.word, False) or bool(around)
        words, words_covered = words + len(seen), words_covered + sum(seen.values())
        known += sum(bool(categories_in(text[m.start : m.end])) for m in ours)
    total = sum(map(len, objects))
    print(f"  mentions      {covered} of {mentions} ({covered / mentions:.1%})")
    print(f"  words         {words_covered} of {words} ({words_covered / words:.1%})")
    print(f"  same category {alike} of {covered} ({alike / covered:.1%})")
    print(f"  known         {known} of {total} objects ({known / total:.0%})")


if __name__ == "__main__":
    main()
