"""POPE's scores: accuracy, precision, recall, F1 and yes ratio over images (protocols 5)."""

from typing import Any, Literal

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.grouped import side_by_side
from sare_jax.evaluation.metrics.pope_parse import Verdict, parse_official, parse_robust
from sare_jax.evaluation.pairing import key_of, texts_of
from sare_jax.files import hash_value
from sare_jax.language.words import coco_table
from sare_jax.records.pope_lists import object_of
from sare_jax.records.texts import Dropped, settings_of

Policy = Literal["as_wrong", "as_yes", "exclude"]
POLICIES: tuple[Policy, ...] = ("as_wrong", "as_yes", "exclude")

COLUMNS = ("questions", "tp", "fp", "tn", "fn", "said_yes", "unknown", "answer_words")


def _f1(sums: np.ndarray) -> np.ndarray:
    tp, fp, fn = sums[..., 1], sums[..., 2], sums[..., 4]
    return 100 * bootstrap.divide(2 * tp, 2 * tp + fp + fn)


METRICS: dict[str, bootstrap.Metric] = {
    "accuracy": bootstrap.share((1, 3), 0),
    "precision": lambda sums: 100 * bootstrap.divide(sums[..., 1], sums[..., 1] + sums[..., 2]),
    "recall": lambda sums: 100 * bootstrap.divide(sums[..., 1], sums[..., 1] + sums[..., 4]),
    "f1": _f1,
    "yes_ratio": bootstrap.share(5, 0),
    "mean_words": bootstrap.ratio(7, 0, scale=1.0),
}


def _by_list(sums: np.ndarray) -> np.ndarray:
    return sums.reshape(*sums.shape[:-1], -1, len(COLUMNS))


LIST_METRICS: dict[str, bootstrap.Metric] = {  # of several lists, their counts side by side
    "mean_f1": lambda sums: METRICS["f1"](_by_list(sums)).mean(-1),
    "pooled_f1": lambda sums: METRICS["f1"](_by_list(sums).sum(-2)),
    "mean_accuracy": lambda sums: METRICS["accuracy"](_by_list(sums)).mean(-1),
}


def score(
    questions: list[dict],
    answers: list[dict],
    *,
    unknown: Policy = "as_wrong",
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy, precision, recall, F1 and yes ratio of one question list, "yes" being the positive class.

    The numbers on top are by the official parser, which knows no unknown answers, so that they compare with
    published ones; `robust` holds the same by the parser that reads answers as a person would.

    Args:
      questions: from `build`, `read_questions` or `requests`; answered requests serve as both arguments.
      answers: records with the question's id (`question_id` or `id`) and `answer` or `text`; records without
        ids are taken in the order of the questions, and must be as many.
      unknown: what the robust parser's unknown answers count as: the wrong answer, a yes (as in the public
        script), or nothing.
      dropped: reason → places of the records that reading the files left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`, the names of `METRICS` in percent (`mean_words`: length of the answers), `n`,
      `n_images`, `confusion`, `unknown`, `skipped`, `dropped`, `intervals`, `rule`, `settings`, `questions`
      (their fingerprint), `per_image`, and `robust` with the same numbers.

    Raises:
      UserError: two answers to a question, answers to none, no answer at all; names the ids.
    """
    if unknown not in POLICIES:
        raise UserError(f"unknown: {unknown!r} is none of {', '.join(POLICIES)}")
    dropped = Dropped(dropped or {})
    pairs = _pair(questions, answers, dropped)
    official = [parse_official(text) for _, text in pairs]
    robust = [parse_robust(text, _category(question)) for question, text in pairs]
    tally = {"draws": draws, "seed": seed}
    return {
        "metric": "pope",
        **_tally(pairs, official, "as_wrong", **tally),
        "rule": "POPE, official parser: no token No/not/no before the first full stop means yes",
        "skipped": sum(map(len, dropped.values())),
        "dropped": dropped.summary(),
        "settings": settings_of(answers),
        "questions": {"n": len(questions), "fingerprint": _fingerprint(questions)},
        "robust": {
            **{k: v for k, v in _tally(pairs, robust, unknown, **tally).items() if k != "per_image"},
            "rule": f"POPE, robust parser; unknown answers count {unknown.replace('_', ' ')}",
            "unknown_examples": [t for (_, t), v in zip(pairs, robust, strict=True) if v == "unknown"][:10],
        },
    }


def _category(question: dict) -> str | None:
    name = question.get("object") or object_of(_question_text(question))
    return coco_table().fold(name) if name else None


def _question_text(question: dict) -> str:
    return str(question.get("question", question.get("text", "")))


def _fingerprint(questions: list[dict]) -> str:
    """Hash of questions, labels and images, whatever their order: 12 hexadecimal digits."""
    asked = [[_question_text(question), question["label"], str(_image(question))] for question in questions]
    return hash_value(sorted(asked))[:12]


def _image(question: dict) -> Any:
    return question.get("image_id", question.get("image"))


def _pair(questions: list[dict], answers: list[dict], dropped: Dropped) -> list[tuple[dict, str]]:
    """Each question with its answer's text; questions without an answer are dropped and counted."""
    texts = texts_of(questions, answers, dropped, ("answer", "text"))
    unusable = set(dropped.get("answer is no text", ()))
    pairs = []
    for question in questions:
        key = str(key_of(question))
        if key in texts:
            pairs.append((question, texts[key]))
        elif key not in unusable:
            dropped.add("no answer", key)
    if not pairs:
        raise UserError(f"nothing left to score: {len(questions)} questions, none with an answer")
    return pairs


def _tally(
    pairs: list[tuple[dict, str]], verdicts: list[Verdict], unknown: Policy, *, draws: int, seed: int
) -> dict[str, Any]:
    rows: dict[Any, np.ndarray] = {}
    for (question, text), verdict in zip(pairs, verdicts, strict=True):
        image = _image(question)
        rows.setdefault(image, np.zeros(len(COLUMNS)))
        rows[image] += _row(question["label"] == "yes", verdict, unknown, len(text.split()))
    counts = np.array(list(rows.values()))
    if not counts[:, 0].any():
        raise UserError("nothing left to score: every answer is unknown, and unknown ones are excluded")
    sums = dict(zip(COLUMNS, counts.sum(axis=0).astype(int).tolist(), strict=True))
    return {
        **{name: bootstrap.value(counts, metric) for name, metric in METRICS.items()},
        "n": sums["questions"],
        "n_images": len(rows),
        "unknown": verdicts.count("unknown"),
        "confusion": {name: sums[name] for name in ("tp", "fp", "tn", "fn")},
        "intervals": bootstrap.intervals(counts, METRICS, draws=draws, seed=seed),
        "per_image": bootstrap.per_image(list(rows), COLUMNS, counts.astype(int)),
    }


def _row(label: bool, verdict: Verdict, unknown: Policy, words: int) -> list[int]:
    """One answer as a row of COLUMNS."""
    undecided = verdict == "unknown"
    if undecided and unknown == "exclude":
        return [int(name == "unknown") for name in COLUMNS]
    counts_as_yes = (not label if unknown == "as_wrong" else True) if undecided else verdict == "yes"
    said_yes = counts_as_yes and not (undecided and unknown == "as_wrong")
    confusion = [
        counts_as_yes and label,
        counts_as_yes and not label,
        not counts_as_yes and not label,
        not counts_as_yes and label,
    ]
    return [1, *map(int, confusion), int(said_yes), int(undecided), words]


def summarise(
    results: dict[str, dict[str, Any]], *, draws: int = bootstrap.DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Several question lists in one number, by name: `mean_f1` over the lists, `pooled_f1` of all questions.

    Args:
      results: kind of the question list → what `score` returned for it.
      draws: bootstrap resamples; an image is drawn with its questions of every kind.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      `mean_f1`, `pooled_f1`, `mean_accuracy` in percent, `kinds`, `n`, `intervals`, `rule`.
    """
    counts = np.stack(list(side_by_side([r["per_image"] for r in results.values()], COLUMNS).values()))
    return {
        **{name: bootstrap.value(counts, metric) for name, metric in LIST_METRICS.items()},
        "kinds": list(results),
        "n": sum(result["n"] for result in results.values()),
        "intervals": bootstrap.intervals(counts, LIST_METRICS, draws=draws, seed=seed),
        "rule": "mean_f1 is the mean of the lists' F1; pooled_f1 the F1 of all their questions together",
    }
