"""Accuracies of questions with one right answer: GQA, ScienceQA and Q-Bench."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks.benchmark import asked_of, pair, unread
from sare_jax.evaluation.columns import Counts, Measure
from sare_jax.evaluation.grouped import groups_of, mean_of_groups, pooled, pooled_share, rows_of
from sare_jax.records.texts import Dropped

COLUMNS = ("questions", "official", "lineage", "robust", "unread_official", "unread_robust", "answer_words")


class Verdict(NamedTuple):
    """What three rules make of one answer.

    Attributes:
      official: right by the benchmark's own rule.
      lineage: right by EFUF's rule.
      robust: right as a person would read it.
      read_official, read_robust: the rule found an answer at all.
    """

    official: bool
    lineage: bool
    robust: bool
    read_official: bool
    read_robust: bool


Judge = Callable[[dict, str], Verdict]


def metrics(groups: Sequence[str]) -> dict[str, bootstrap.Metric]:
    """The numbers in percent: `accuracy` over questions (micro), `macro_accuracy` the mean of the groups.

    They take the groups from the counts' shape; the parameter is there since all `Counts.metrics` have it.
    """
    del groups
    size = len(COLUMNS)
    return {
        "accuracy": pooled_share(1, 0, size),
        "macro_accuracy": mean_of_groups(1, 0, size),
        "accuracy_lineage": pooled_share(2, 0, size),
        "accuracy_robust": pooled_share(3, 0, size),
        "macro_accuracy_robust": mean_of_groups(3, 0, size),
        "mean_words": pooled(6, 0, size, scale=1.0),
    }


SHOWN = tuple(metrics(()))
COUNTS = Counts(COLUMNS, metrics)


def accuracy_of(name: str, title: str) -> tuple[Measure, ...]:
    """The report's columns of a benchmark: its official accuracy, and the number of questions asked."""
    return (
        Measure(
            f"{name}_accuracy",
            title,
            ("benchmarks", name, "accuracy"),
            "higher",
            help="Right answers in percent, by the official rule.",
        ),
        asked_of(name, title),
    )


def scorer(name: str, rule: str, judge: Judge, fits: Callable[[dict], bool]) -> Callable[..., dict[str, Any]]:
    """`score` for one benchmark, to be called with questions and answers."""
    return partial(score, name, rule, judge, fits)


def score(
    name: str,
    rule: str,
    judge: Judge,
    fits: Callable[[dict], bool],
    questions: list[dict],
    answers: list[dict],
    *,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy by three rules.

    Args:
      name: the benchmark's name, the result's `metric`.
      rule: the three rules in words, the result's `rule`.
      judge: from a question and its answer's text to the verdict.
      fits: whether a question has what the benchmark needs.
      questions: from the benchmark's reader or `benchmark.requests`; answered requests serve as both.
      answers: records with the question's id and the answer's text, see `benchmark.pair`.
      dropped: reason → places of the records that reading the files left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`, `accuracy`, `macro_accuracy` (mean over the main groups), `accuracy_lineage`,
      `accuracy_robust`, `macro_accuracy_robust` in percent, `mean_words` of the answers, `by` ({dimension:
      {group: n, accuracy, accuracy_robust}}), `unread`, the entries of `benchmark.Answered.about`,
      `intervals`, `rule`, `per_image`.

    Raises:
      UserError: questions and answers do not belong together; see `benchmark.pair`.
    """
    answered = pair(questions, answers, fits, dropped)
    lines: dict[tuple[str, str], np.ndarray] = {}
    by: dict[str, dict[str, Counter]] = {}
    for question, text in answered.pairs:
        verdict = Verdict(*[False] * 5) if text is None else judge(question, text)
        image = str(question.get("image", f"question {question['id']}"))
        row = lines.setdefault((image, main_group(question)), np.zeros(len(COLUMNS), int))
        missing = text is None
        row += [
            1,
            *verdict[:3],
            not (missing or verdict.read_official),
            not (missing or verdict.read_robust),
            0 if text is None else len(text.split()),
        ]
        for dimension, group in memberships(question):
            count = by.setdefault(dimension, {}).setdefault(group, Counter())
            count.update(n=1, official=verdict.official, robust=verdict.robust)
    table: dict[str, list] = {
        "group": [group for _, group in lines],
        **bootstrap.per_image([image for image, _ in lines], COLUMNS, np.stack(list(lines.values()))),
    }
    groups = groups_of(table)
    counts = np.stack(list(rows_of(table, COLUMNS, groups).values()))
    named = metrics(groups)
    total = dict(zip(COLUMNS, np.stack(list(lines.values())).sum(axis=0).tolist(), strict=True))
    about = answered.about
    present = about["n"] - about["missing"]["count"]
    about["warnings"] += unread(total["unread_official"], present, "official rule", "an answer")
    about["warnings"] += unread(total["unread_robust"], present, "robust rule", "an answer")
    return {
        "metric": name,
        **{key: bootstrap.value(counts, metric) for key, metric in named.items()},
        "n_images": len({image for image, _ in lines}),
        "unread": {"official": total["unread_official"], "robust": total["unread_robust"]},
        **about,
        "by": {dimension: _shares(groups) for dimension, groups in by.items()},
        "intervals": bootstrap.intervals(counts, named, draws=draws, seed=seed),
        "rule": rule,
        "per_image": table,
    }


def main_group(question: dict) -> str:
    """The question's group in its first dimension, `all` where it has none."""
    return next((group for _, group in memberships(question)), "all")


def memberships(question: dict) -> list[tuple[str, str]]:
    """All groups of a question, as pairs (dimension, group)."""
    return [
        (dimension, group)
        for dimension, names in question.get("groups", {}).items()
        for group in ([names] if isinstance(names, str) else names)
    ]


def _shares(groups: dict[str, Counter]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "n": count["n"],
            "accuracy": 100 * count["official"] / count["n"],
            "accuracy_robust": 100 * count["robust"] / count["n"],
        }
        for name, count in groups.items()
    }
