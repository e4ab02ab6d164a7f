"""GQA: compositional questions about real images, answered in a word or two (Hudson & Manning 2019).

Measured is what the balanced questions suffice for: accuracy, overall, of binary and open questions, and by
type. The official script's consistency, validity, plausibility and grounding need more files.
"""

from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import multiple
from sare_jax.evaluation.benchmarks.benchmark import SINGLE_WORD, Benchmark, find, folder_of
from sare_jax.evaluation.benchmarks.choices import holds, words
from sare_jax.evaluation.metrics.pope_parse import clauses, parse_stated
from sare_jax.files import read_json

FILE = "testdev_balanced_questions.json"
RULE = (
    "GQA: official: the answer is the gold one, in lower case and without a final full stop (LLaVA); "
    "lineage: the gold answer stands somewhere in it (EFUF); robust: as whole words in a clause that denies "
    "nothing"
)


def read(path: Path) -> list[dict]:
    """Questions of `testdev_balanced_questions.json`: {id: {question, imageId, answer, types, …}}.

    Args:
      path: that file, or a folder that holds it, by itself or in `questions1.2` or `questions`.

    Raises:
      UserError: no such file, or not in the format; names the entry.
    """
    file = find(path, (FILE, f"questions1.2/{FILE}", f"questions/{FILE}"), "GQA's balanced questions")
    content = read_json(file)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{file}: expected {{question id: {{question, imageId, answer, …}}}}")
    return [_question(file, key, entry) for key, entry in content.items()]


def _question(file: Path, key: str, entry: Any) -> dict:
    try:
        text, image, label = (str(entry[name]) for name in ("question", "imageId", "answer"))
        types = entry.get("types") or {}
        groups = {name: types[name] for name in ("structural", "semantic") if types.get(name)}
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{file}: entry {key!r} is no question with an answer ({error})") from None
    if "structural" in groups:  # the official script's two kinds
        groups["kind"] = "open" if groups["structural"] == "query" else "binary"
    return {"id": key, "image": f"{image}.jpg", "question": text, "label": label, "groups": groups}


def images(path: Path) -> Path:
    """The folder of the images that belong to the benchmark's file or folder `path`."""
    near = folder_of(Path(path), ("images",))
    above = near.parent.parent / "images"  # the questions may stand in a folder of their own
    return above if not near.is_dir() and above.is_dir() else near


def judge(question: dict, text: str) -> multiple.Verdict:
    """The verdict on one answer, by the rules in `RULE`."""
    gold = question["label"]
    answer = text.rstrip(".").lower()
    stated = parse_stated(text) if gold.lower() in ("yes", "no") else None
    return multiple.Verdict(
        official=answer == gold,
        lineage=gold.lower() in text.lower(),
        robust=stated == gold.lower() if stated else relaxed(gold, text),
        read_official=bool(answer.strip()),
        read_robust=stated != "unknown" if stated else bool(words(text)),
    )


def relaxed(gold: str, text: str) -> bool:
    """Whether the gold answer stands, as whole words, in a clause that denies nothing."""
    wanted = words(gold)
    if words(text) == wanted:
        return True
    return any(holds(words(clause), wanted) for clause, denies in clauses(text) if not denies)


def _fits(question: dict) -> bool:
    return "image" in question


BENCHMARK = Benchmark(
    name="gqa",
    title="GQA",
    about="compositional questions about real images, answered in a word or two",
    prompts={"official": SINGLE_WORD, "lineage": SINGLE_WORD},
    read=read,
    images=images,
    score=multiple.scorer("gqa", RULE, judge, _fits),
    shown=multiple.SHOWN,
    counts=multiple.COUNTS,
    columns=multiple.accuracy_of("gqa", "GQA"),
)
