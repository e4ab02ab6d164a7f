"""POPE's numbers by RePOPE's labels, counted as `src/eval_utils.py` of YanNeu/RePOPE does at bcf22e5.

Questions that RePOPE's lists lack, since nobody can tell the answer, count for POPE's labels alone
(protocols 8.3).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks.benchmark import pair, unread
from sare_jax.evaluation.grouped import groups_of, per_group, rows_of
from sare_jax.evaluation.metrics.pope_parse import Verdict, parse_robust
from sare_jax.evaluation.pairing import key_of
from sare_jax.language.words import coco_table
from sare_jax.records.pope_lists import KINDS
from sare_jax.records.texts import Dropped

UNCLEAR = "unclear"
_PARTS = ("tp", "fp", "tn", "fn")
_LABELS = ("", "_robust", "_pope")
COLUMNS = (
    *(f"{part}{suffix}" for suffix in _LABELS for part in _PARTS),
    "questions",
    "unclear",
    "relabelled",
    "unread",
    "unread_robust",
    "words",
)
_AT = {name: place for place, name in enumerate(COLUMNS)}
RULE = (
    "RePOPE: mean over its lists; questions that it leaves out do not count; official: an answer with yes "
    "in it is yes, else one with no in it is no, else it does not count; robust: as a person would read it, "
    "what cannot be read being wrong; pope: the official rule with POPE's labels, on the whole lists"
)


def parse_official(text: str) -> Verdict:
    """RePOPE's rule: "yes" anywhere in the answer, else "no" anywhere in it ("not", "know" too)."""
    lowered = text.lower()
    if "yes" in lowered:
        return "yes"
    return "no" if "no" in lowered else "unknown"


def _mean(name: str, suffix: str) -> bootstrap.Metric:
    """A number of one confusion table, in percent, as the mean over the lists."""

    def value(sums: np.ndarray) -> np.ndarray:
        tp, fp, tn, fn = (per_group(sums, len(COLUMNS))[..., _AT[f"{part}{suffix}"]] for part in _PARTS)
        top, bottom = {
            "accuracy": (tp + tn, tp + fp + tn + fn),
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "f1": (2 * tp, 2 * tp + fp + fn),
            "yes_ratio": (tp + fp, tp + fp + tn + fn),
        }[name]
        return 100 * bootstrap.divide(top, bottom).mean(axis=-1)

    return value


def metrics(groups: Sequence[str]) -> dict[str, bootstrap.Metric]:
    """The numbers by name: means over the lists, whose counts stand side by side.

    They take the lists from the counts' shape; the parameter is there since all `Counts.metrics` have it.
    """
    del groups
    official = ("f1", "accuracy", "precision", "recall", "yes_ratio")
    return {
        **{name: _mean(name, "") for name in official},
        **{f"{name}{suffix}": _mean(name, suffix) for suffix in _LABELS[1:] for name in ("f1", "accuracy")},
    }


SHOWN = tuple(metrics(()))


def score(
    questions: list[dict],
    answers: list[dict],
    *,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """POPE's numbers with RePOPE's labels, and with POPE's own.

    Args:
      questions: from `read` or `benchmark.requests`; answered requests serve as both.
      answers: records with RePOPE's id (`random/1`) and the answer's text, see `benchmark.pair`. Answers to
        questions that RePOPE leaves out, where `questions` lacks these, are left out and counted.
      dropped: reason → places of the records that reading the files left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able, in percent, means over the lists: `metric`; `f1`, `accuracy`, `precision`, `recall`,
      `yes_ratio` by RePOPE's labels and reading; `f1_robust`, `accuracy_robust` by a person's reading;
      `f1_pope`, `accuracy_pope` by POPE's labels, None where they are not known; `unclear` (questions that
      RePOPE leaves out), `relabelled` (of those that count); `by`; `unread`; the entries of
      `benchmark.Answered.about`; `intervals`; `rule`; `per_image`.

    Raises:
      UserError: questions and answers do not belong together; see `benchmark.pair`.
    """
    dropped = Dropped(dropped or {})
    answers = _labelled(questions, answers, dropped)
    answered = pair(questions, answers, _fits, dropped)
    lines: dict[tuple[str, str], np.ndarray] = {}
    by: dict[str, Counter] = {}
    for question, text in answered.pairs:
        row = lines.setdefault((question["image"], question["groups"]["list"]), np.zeros(len(COLUMNS), int))
        counts = _counts(question, text)
        by.setdefault(question["groups"]["list"], Counter()).update(counts)
        for name, count in counts.items():
            row[_AT[name]] += count
    table: dict[str, list] = {
        "group": [kind for _, kind in lines],
        **bootstrap.per_image([image for image, _ in lines], COLUMNS, np.stack(list(lines.values()))),
    }
    groups = groups_of(table)
    counts_of_images = np.stack(list(rows_of(table, COLUMNS, groups).values()))
    total = dict(zip(COLUMNS, np.stack(list(lines.values())).sum(axis=0).tolist(), strict=True))
    known = all("pope_label" in question for question in questions)
    named = {name: metric for name, metric in metrics(groups).items() if known or not name.endswith("_pope")}
    about = answered.about
    present = about["n"] - about["missing"]["count"]
    silent = unread(total["unread"], present, "official rule", "yes or no")
    about["warnings"] += [line.replace("count as wrong", "do not count") for line in silent]
    about["warnings"] += unread(total["unread_robust"], present, "robust rule", "yes or no")
    return {
        "metric": "repope",
        **dict.fromkeys(SHOWN),
        **{name: bootstrap.value(counts_of_images, metric) for name, metric in named.items()},
        "n_images": len({image for image, _ in lines}),
        "unclear": total["unclear"],
        "relabelled": total["relabelled"] if known else None,
        "unread": {"official": total["unread"], "robust": total["unread_robust"]},
        **about,
        "by": {"list": {kind: _numbers(count) for kind, count in by.items()}},
        "intervals": bootstrap.intervals(counts_of_images, named, draws=draws, seed=seed),
        "rule": RULE,
        "per_image": table,
    }


def _labelled(questions: list[dict], answers: list[dict], dropped: Dropped) -> list[dict]:
    """The answers without those to POPE's questions that RePOPE leaves out, where these were not read."""
    if any(question.get("label") == UNCLEAR for question in questions):
        return answers
    known = {key_of(question) for question in questions}
    kept = []
    for answer in answers:
        key = key_of(answer) or ""
        kind, _, number = key.partition("/")
        if key in known or kind not in KINDS or not number.isdecimal():
            kept.append(answer)
        else:
            dropped.add("left out by RePOPE", key)
    return kept


def _counts(question: dict, text: str | None) -> dict[str, int]:
    """The counts of one answer; None is no answer, and wrong."""
    clear = question["label"] != UNCLEAR
    before = question.get("pope_label")
    named = question.get("object")
    official = parse_official(text or "")
    robust = parse_robust(text or "", coco_table().fold(named) if named else None)
    counts = {
        "questions": 1,
        "unclear": int(not clear),
        "relabelled": int(clear and before is not None and before != question["label"]),
        "unread": int(text is not None and official == "unknown"),
        "unread_robust": int(clear and text is not None and robust == "unknown"),
        "words": len((text or "").split()),
    }
    if clear:
        counts |= _confusion("", question["label"], official if text is not None else "wrong")
        counts |= _confusion("_robust", question["label"], "wrong" if robust == "unknown" else robust)
    if before is not None:
        counts |= _confusion("_pope", before, official if text is not None else "wrong")
    return counts


def _confusion(suffix: str, label: str, said: str) -> dict[str, int]:
    """One answer in the confusion table of that suffix; nowhere in it where it is unknown."""
    if said == "unknown":
        return {}
    if said == "wrong":
        said = "no" if label == "yes" else "yes"
    return {f"{'t' if said == label else 'f'}{'p' if said == 'yes' else 'n'}{suffix}": 1}


def _numbers(count: Counter) -> dict[str, Any]:
    """The numbers of one list."""
    sums = np.array([[count[name] for name in COLUMNS]], float)
    shown = ("accuracy", "accuracy_robust", "f1", "f1_robust")
    chosen = {name: metric for name, metric in metrics(()).items() if name in shown}
    counted = {"n": count["questions"] - count["unclear"]}
    return counted | {name: bootstrap.value(sums, chosen[name]) for name in shown}


def _fits(question: dict) -> bool:
    """Whether a question is one of RePOPE's, or of POPE's that it leaves out."""
    return (
        question["label"] in ("yes", "no", UNCLEAR)
        and question.get("pope_label", "yes") in ("yes", "no")
        and question["groups"].get("list") in KINDS
        and isinstance(question.get("image"), str)
        and isinstance(question.get("object", ""), str)
    )
