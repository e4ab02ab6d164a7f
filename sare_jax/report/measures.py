"""The numbers that a report shows: where each stands in a metrics file, and how to read it."""

import math
from dataclasses import dataclass
from typing import Literal

from sare_jax.errors import UserError

NOT_MEASURED = "not measured"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Measure:
    """One column of the result table.

    Attributes:
      key: its name in `report.json`.
      label: how it is written in plain text; `_S` and `_I` become subscripts on the page.
      path: keys that lead to the number in `metrics/<run>/<setting>.json`.
      interval: keys that lead to its [low, high]; empty where there is none.
      better: which way is good; None where neither is.
      digits: decimals shown.
      scale: the stored number times this is what is shown.
      help: how to read it, for a reader who has not met it.
    """

    key: str
    label: str
    path: tuple[str, ...]
    interval: tuple[str, ...] = ()
    better: Literal["lower", "higher"] | None = None
    digits: int = 1
    scale: float = 1.0
    help: str = ""


@dataclass(frozen=True)
class Value:
    """A measured number with its 95 % interval, or the reason why there is none.

    Attributes:
      number: None where there is none.
      interval: (low, high), or None.
      reason: `not measured` or `not run` where `number` is None.
    """

    number: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = NOT_MEASURED


CHAIR_S = Measure(
    "chair_s",
    "CHAIR_S",
    ("chair", "chair_s"),
    ("chair", "intervals", "chair_s"),
    "lower",
    help="Share of captions, in percent, that name at least one object which is not in the picture.",
)
CHAIR_I = Measure(
    "chair_i",
    "CHAIR_I",
    ("chair", "chair_i"),
    ("chair", "intervals", "chair_i"),
    "lower",
    help="Share of object mentions, in percent, that are of an object which is not in the picture.",
)
RECALL = Measure(
    "recall",
    "Recall",
    ("chair", "recall"),
    ("chair", "intervals", "recall"),
    "higher",
    help="Share of the objects in the pictures, in percent, that the captions name. The price of an erasure: "
    "a model that says nothing has CHAIR 0 and recall 0.",
)
HUMAN = Measure(
    "human",
    "Human",
    ("human",),
    better="lower",
    help="Share of captions that people find hallucinated, where they were asked.",
)
POPE = Measure(
    "pope_f1",
    "POPE F1",
    ("pope", "mean_f1"),
    ("pope", "intervals", "mean_f1"),
    "higher",
    help="Yes/no questions about present and absent objects: F1 of “yes”, the mean of the random, popular "
    "and adversarial lists.",
)
BLEU = tuple(
    Measure(
        f"bleu{n}",
        f"BLEU-{n}",
        ("bleu", "word", f"bleu_{n}"),
        ("bleu", "word", "intervals", f"bleu_{n}"),
        "higher",
        help="Overlap of word sequences with all reference captions; falls as captions outgrow them.",
    )
    for n in (1, 2, 4)
)
INFO = Measure(
    "informativeness",
    "Info.",
    ("informativeness", "informativeness"),
    ("informativeness", "intervals", "informativeness"),
    "higher",
    help="Coverage of the picture as a language model judges it, where one was asked.",
)
PERPLEXITY = Measure(
    "perplexity",
    "ppl",
    ("perplexity", "mean"),
    ("perplexity", "intervals", "mean"),
    "lower",
    digits=2,
    help="Perplexity of the captions under a small language model, the mean over captions; low is fluent.",
)
WORDS = Measure(
    "mean_words",
    "Words",
    ("chair", "mean_words"),
    ("chair", "intervals", "mean_words"),
    help="Mean caption length. Shorter captions have fewer chances to hallucinate, so read CHAIR beside it.",
)
N = Measure("n", "n", ("chair", "n"), digits=0, help="Captions in this row.")

TABLE_1 = (CHAIR_S, CHAIR_I, RECALL, HUMAN, POPE, *BLEU, INFO, PERPLEXITY, WORDS, N)

OTHER = (
    Measure(
        "chair_i_words",
        "CHAIR_I, distinct words",
        ("chair", "chair_i_words"),
        ("chair", "intervals", "chair_i_words"),
        "lower",
    ),
    *(
        Measure(
            f"bleu{n}_char",
            f"BLEU-{n}, characters",
            ("bleu", "efuf_char", f"bleu_{n}"),
            ("bleu", "efuf_char", "intervals", f"bleu_{n}"),
            "higher",
        )
        for n in (1, 2, 4)
    ),
    Measure(
        "ppl_paper",
        "ppl ÷ 100",
        ("perplexity", "mean_paper_scale"),
        ("perplexity", "intervals", "mean_paper_scale"),
        "lower",
        digits=4,
    ),
    Measure(
        "ppl_corpus",
        "ppl, corpus",
        ("perplexity", "corpus"),
        ("perplexity", "intervals", "corpus"),
        "lower",
        digits=2,
    ),
    Measure(
        "cut_off",
        "cut off, %",
        ("lengths", "cut_off_rate"),
        ("lengths", "intervals", "cut_off_rate"),
        "lower",
        scale=100,
    ),
    Measure("empty", "empty, %", ("chair", "empty_rate"), ("chair", "intervals", "empty_rate"), "lower"),
    Measure("skipped", "left out", ("chair", "skipped"), digits=0),
)

POPE_KINDS = ("random", "popular", "adversarial")
POPE_DETAIL = tuple(
    Measure(f"{kind}_{key}", f"{kind} {label}", ("pope", kind, key), ("pope", kind, "intervals", key), better)
    for kind in POPE_KINDS
    for key, label, better in (
        ("f1", "F1", "higher"),
        ("accuracy", "acc.", "higher"),
        ("yes_ratio", "yes", None),
    )
)


def _benchmark(name: str, label: str, key: str, help: str) -> Measure:
    path = ("benchmarks", name)
    return Measure(f"{name}_{key}", label, (*path, key), (*path, "intervals", key), "higher", help=help)


def _answered(name: str, title: str) -> Measure:
    return Measure(f"{name}_n", f"{title} n", ("benchmarks", name, "n"), digits=0, help="Questions asked.")


BENCHMARKS = (
    _benchmark(
        "mme", "MME perception", "perception", "Sum over ten tasks of accuracy and accuracy+; to 2000."
    ),
    _benchmark("mme", "MME cognition", "cognition", "The same over four tasks; to 800."),
    _answered("mme", "MME"),
    *(
        measure
        for name, title in (("gqa", "GQA"), ("scienceqa", "ScienceQA"), ("qbench", "Q-Bench"))
        for measure in (
            _benchmark(name, title, "accuracy", "Right answers in percent, by the official rule."),
            _answered(name, title),
        )
    ),
)


def result_name(measure: Measure) -> str:
    """The measure's dotted name, as `sare_jax.evaluation.compare` has it."""
    return ".".join(measure.path)


def lookup(result: dict, path: tuple[str, ...]) -> object:
    """What stands under nested keys, or None."""
    node: object = result
    for key in path:
        if not isinstance(node, dict) or key not in node:
            return None
        node = node[key]
    return node


def value(result: dict | None, measure: Measure, where: str = "metrics") -> Value:
    """Reads one measure from one metrics file.

    Args:
      result: the file's contents, or None where the setting was not run.
      measure: what to read.
      where: the file's name, for messages.

    Raises:
      UserError: something other than a number, null or a reason in words stands there.
    """
    if result is None:
        return Value(reason=NOT_RUN)
    found = lookup(result, measure.path)
    if found is None or (isinstance(found, str) and found.startswith("not ")):
        return Value(reason=found or NOT_MEASURED)
    if not _is_number(found):
        raise UserError(f"{where}: {'.'.join(measure.path)} should be a number; run the evaluate stage again")
    if not math.isfinite(found):
        return Value()
    interval = lookup(result, measure.interval) if measure.interval else None
    return Value(found * measure.scale, _interval(interval, measure, where), "")


def _interval(found: object, measure: Measure, where: str) -> tuple[float, float] | None:
    if found is None:
        return None
    if not (isinstance(found, list) and len(found) == 2 and all(map(_is_number, found))):
        path = ".".join(measure.interval)
        raise UserError(f"{where}: {path} should be [low, high]; run the evaluate stage again")
    low, high = (bound * measure.scale for bound in found)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _is_number(found: object) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)
