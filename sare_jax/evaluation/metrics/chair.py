"""CHAIR: the share of objects, and of captions, that name what is not in the image.

Rohrbach et al. 2018; paper Eq. 9-10; protocols 1.9 and 4.
"""

import shutil
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np

from sare_jax.evaluation import bootstrap, console
from sare_jax.evaluation.columns import Measure, ungrouped
from sare_jax.evaluation.metrics.metric import AtHand, Metric
from sare_jax.language.words import WordTable, categories_in, coco_table, read_table
from sare_jax.records.coco import Truth, read_truth
from sare_jax.records.texts import Dropped, Settings, stream_matches, stream_records

RULE = (
    "CHAIR against instances and reference captions; chair_i counts every mention (reference rule), "
    "chair_i_words each word once a caption (EFUF's rule)"
)
COLUMNS = (
    "captions",
    "hallucinated",
    "mentions",
    "mentions_hallucinated",
    "words",
    "words_hallucinated",
    "categories_found",
    "categories_true",
    "length",
    "characters",
    "empty",
    "no_object",
)
METRICS: dict[str, bootstrap.Metric] = {
    "chair_s": bootstrap.share(1, 0),
    "chair_i": bootstrap.ratio(3, 2),
    "chair_i_words": bootstrap.ratio(5, 4),
    "recall": bootstrap.ratio(6, 7),
    "mean_words": bootstrap.ratio(8, 0, scale=1.0),
    "mean_characters": bootstrap.ratio(9, 0, scale=1.0),
    "empty_rate": bootstrap.share(10, 0, scale=1.0),
}


class Judged(NamedTuple):
    """A `words.Mention` (start, end, word, category) and whether its object is absent from the image."""

    start: int
    end: int
    word: str
    category: str
    hallucinated: bool


def explain(caption: str, categories: frozenset[str], table: WordTable | None = None) -> list[Judged]:
    """Every object that a caption names, and whether the image lacks it.

    Args:
      caption: text of the caption, in any case.
      categories: names of the categories that the image shows (`Truth.categories`).
      table: words and their categories; COCO's where none is given.
    """
    return [
        Judged(*mention, hallucinated=mention.category not in categories)
        for mention in categories_in(caption, table)
    ]


def _row(caption: str, categories: frozenset[str], judged: list[Judged]) -> list[int]:
    """The counts of one caption, in the order of COLUMNS."""
    words = {item.word: item.hallucinated for item in judged}
    present = {item.category for item in judged if not item.hallucinated}
    invented = sum(item.hallucinated for item in judged)
    return [
        1,
        int(invented > 0),
        len(judged),
        invented,
        len(words),
        sum(words.values()),
        len(present),
        len(categories),
        len(caption.split()),
        len(caption),
        int(not caption.strip()),
        int(not judged),
    ]


def score(
    captions: Iterable[dict],
    truth: Truth,
    *,
    table: WordTable | None = None,
    dropped: Dropped | None = None,
    each: Callable[[int, str, list[Judged]], None] | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """CHAIR of a set of captions.

    Args:
      captions: records with `image_id` (or `image`) and `caption`; no text is kept, so they may be a stream.
      truth: the objects and reference captions of each image, see `records.coco.read_truth`.
      table: words and their categories; those of `truth` where none is given.
      dropped: reason → places of the records that reading the file left out; a stream may still fill it.
      each: is called with each caption's image id, text and objects.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`, `chair_s`, `chair_i`, `chair_i_words`, `recall` in percent, `mean_words`,
      `mean_characters`, `empty_rate` (a share), `n`, `n_no_object`, `skipped`, `dropped`, `intervals`,
      `rule`, `vocabulary`, `truth`, `settings`, `hallucinated_categories` (mentions), and `per_image` with
      the columns that intervals and comparisons are made from, and with `invented`, the categories of each
      caption's absent objects. Where no object is named, CHAIR_I is 0.

    Raises:
      UserError: an image without annotations, two captions of an image, nothing to score.
    """
    table, settings = table or truth.table, Settings()
    dropped = Dropped() if dropped is None else dropped
    image_ids: list[int] = []
    rows = array("q")
    mentions: Counter[str] = Counter()
    invented: list[list[str]] = []
    for image_id, text in stream_matches(settings.noted(captions), truth, dropped):
        categories = truth.categories(image_id)
        judged = explain(text, categories, table)
        image_ids.append(image_id)
        rows.extend(_row(text, categories, judged))
        absent = [item.category for item in judged if item.hallucinated]
        mentions.update(absent)
        invented.append(list(dict.fromkeys(absent)))
        if each:
            each(image_id, text, judged)
    counts = np.array(rows).reshape(-1, len(COLUMNS))
    return {
        "metric": "chair",
        **{name: bootstrap.value(counts, metric) for name, metric in METRICS.items()},
        "n": len(counts),
        "n_no_object": int(counts[:, COLUMNS.index("no_object")].sum()),
        "skipped": sum(map(len, dropped.values())),
        "dropped": dropped.summary(),
        "intervals": bootstrap.intervals(counts, METRICS, draws=draws, seed=seed),
        "rule": RULE,
        "vocabulary": {"source": Path(table.source).name, "fingerprint": table.fingerprint},
        "truth": truth.describe(),
        "settings": settings.named(),
        "hallucinated_categories": dict(mentions.most_common()),
        "per_image": bootstrap.per_image(image_ids, COLUMNS, counts) | {"invented": invented},
    }


def explanation(image_id: int, text: str, judged: list[Judged], truth: Truth) -> Iterator[str]:
    """Lines of text on a caption: its objects' words, their categories, and why each counts as it does."""
    yield f"{image_id}  in the image: {', '.join(sorted(truth.categories(image_id))) or 'nothing listed'}"
    words: set[str] = set()
    for item in judged:
        again = "; the same word again: counts for chair_i alone" if item.word in words else ""
        words.add(item.word)
        shown = f"{text[item.start : item.end]!r} → {item.category} ({item.word})"
        yield f"    {shown}: {_why(item, image_id, truth)}{again}"
    if not judged:
        yield "    names no object: counts as a caption only"


def _why(item: Judged, image_id: int, truth: Truth) -> str:
    if item.hallucinated:
        return "HALLUCINATED: not in the image"
    annotated = item.category in truth.instances[image_id]
    return f"in the image, {'annotated' if annotated else 'named by a reference caption'}"


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation chair`."""
    parser = console.parser("chair", RULE)
    parser.add_argument(
        "--captions", required=True, help="JSON lines of image_id and caption, or `image ### text`"
    )
    parser.add_argument("--truth", required=True, help="COCO annotations folder, or JSON {id: [category, …]}")
    parser.add_argument("--synonyms", help="another word table: a line a category, `category: word, word`")
    parser.add_argument("--explain", action="store_true", help="list each word and why it counts")
    console.add_common(parser)
    options = parser.parse_args(argv)
    table = read_table(Path(options.synonyms)) if options.synonyms else coco_table()
    truth = read_truth(options.truth, table)
    dropped = Dropped()
    captions = stream_records(options.captions, dropped)
    with console.naming(options.captions), TemporaryFile("w+", encoding="utf-8", newline="") as told:

        def tell(image_id: int, text: str, judged: list[Judged]) -> None:
            told.writelines(f"{line}\n" for line in explanation(image_id, text, judged, truth))

        result = score(
            captions,
            truth,
            dropped=dropped,
            each=tell if options.explain else None,
            draws=options.draws,
            seed=options.seed,
        )
        told.seek(0)
        # Beside JSON on standard error, so that standard output stays one document.
        shutil.copyfileobj(told, sys.stderr if options.json else sys.stdout)
    result["settings"] |= {"captions": console.file_identity(options.captions)}
    if options.json:
        console.print_json(result)
    else:
        console.print_table("CHAIR", result, list(METRICS))


def _measure(at_hand: AtHand, settings: None) -> dict[str, Any]:
    return score(at_hand.captions, at_hand.truth, draws=at_hand.draws, seed=at_hand.seed)


CHAIR_S = Measure(
    "chair_s",
    "CHAIR_S",
    ("chair", "chair_s"),
    "lower",
    help="Share of captions, in percent, that name at least one object which is not in the picture.",
)
CHAIR_I = Measure(
    "chair_i",
    "CHAIR_I",
    ("chair", "chair_i"),
    "lower",
    help="Share of object mentions, in percent, that are of an object which is not in the picture.",
)
RECALL = Measure(
    "recall",
    "Recall",
    ("chair", "recall"),
    "higher",
    help="Share of the objects in the pictures, in percent, that the captions name. The price of an erasure: "
    "a model that says nothing has CHAIR 0 and recall 0.",
)
WORDS = Measure(
    "mean_words",
    "Words",
    ("chair", "mean_words"),
    help="Mean caption length. Shorter captions have fewer chances to hallucinate, so read CHAIR beside it.",
    place=1,
)

METRIC = Metric(
    name="chair",
    title="CHAIR",
    about="objects that captions name and the images lack, by every mention and by distinct words (EFUF)",
    measure=_measure,
    command=main,
    depends_on=lambda settings: [*COLUMNS, "invented"],
    counts={"chair": ungrouped(COLUMNS, METRICS)},
    columns=(
        CHAIR_S,
        CHAIR_I,
        RECALL,
        WORDS,
        Measure("n", "n", ("chair", "n"), digits=0, help="Captions in this row.", place=1),
    ),
    other=(
        Measure("chair_i_words", "CHAIR_I, distinct words", ("chair", "chair_i_words"), "lower"),
        Measure("empty", "empty, %", ("chair", "empty_rate"), "lower", place=1),
        Measure("skipped", "left out", ("chair", "skipped"), digits=0, place=1),
    ),
    price=(RECALL, WORDS),
    prompted=(CHAIR_S,),
    compared=(CHAIR_S, CHAIR_I, RECALL, WORDS),
    rules={"": "CHAIR, recall, words", "truth": "What is in the pictures"},
    counted={"captions": (("chair", "n"),)},
)
