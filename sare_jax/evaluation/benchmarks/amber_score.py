"""AMBER's numbers, counted as `inference.py` of junyangwang0410/AMBER does at 534babf (protocols 8.1)."""

from collections import Counter
from functools import partial
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks.amber_objects import (
    Scene,
    Similar,
    find,
    installed_vectors,
    near_synonyms,
    nouns_of,
)
from sare_jax.evaluation.benchmarks.benchmark import pair, unread
from sare_jax.evaluation.benchmarks.multiple import memberships
from sare_jax.evaluation.metrics.pope_parse import parse_stated
from sare_jax.records.texts import Dropped

DESCRIPTION = "generative"

COLUMNS = (
    "descriptions",
    "hallucinated",
    "nouns",
    "nouns_invented",
    "objects",
    "objects_named",
    "feared",
    "feared_named",
    "words",
    "questions",
    "no_labels",
    "right",
    "said_no",
    "no_right",
    "right_robust",
    "said_no_robust",
    "no_right_robust",
    "unread",
    "unread_robust",
)
_AT = {name: place for place, name in enumerate(COLUMNS)}


def _ratio(top: str, bottom: str, scale: float = 100.0) -> bootstrap.Metric:
    return bootstrap.ratio(_AT[top], _AT[bottom], scale)


def _f1(suffix: str) -> bootstrap.Metric:
    right, said, labels = _AT[f"no_right{suffix}"], _AT[f"said_no{suffix}"], _AT["no_labels"]
    return lambda sums: 200 * bootstrap.divide(sums[..., right], sums[..., said] + sums[..., labels])


def _of_no(suffix: str) -> dict[str, bootstrap.Metric]:
    return {
        "accuracy": bootstrap.share(_AT[f"right{suffix}"], _AT["questions"]),
        "precision": _ratio(f"no_right{suffix}", f"said_no{suffix}"),
        "recall": _ratio(f"no_right{suffix}", "no_labels"),
        "f1": _f1(suffix),
    }


def _amber_score(suffix: str) -> bootstrap.Metric:
    chair, f1 = _ratio("nouns_invented", "nouns"), _f1(suffix)
    return lambda sums: (100 - chair(sums) + f1(sums)) / 2


DESCRIBED: dict[str, bootstrap.Metric] = {
    "chair": _ratio("nouns_invented", "nouns"),
    "cover": _ratio("objects_named", "objects"),
    "hal": bootstrap.share(_AT["hallucinated"], _AT["descriptions"]),
    "cog": _ratio("feared_named", "feared"),
    "mean_words": _ratio("words", "descriptions", 1.0),
}
ANSWERED: dict[str, bootstrap.Metric] = {
    f"{name}{suffix}": metric for suffix in ("", "_robust") for name, metric in _of_no(suffix).items()
}
BOTH = {f"amber_score{suffix}": _amber_score(suffix) for suffix in ("", "_robust")}
METRICS = DESCRIBED | ANSWERED | BOTH
RULE = (
    "AMBER: CHAIR = invented nouns / nouns, Cover = annotated objects named, Hal = descriptions with an "
    "invented noun, Cog = listed likely inventions named; of yes/no, no is the positive class; official: the "
    "answer is Yes or No and nothing else, robust: what it states; AMBER score = (100 - CHAIR + F1) / 2; "
    "nouns by spaCy's small tagger (released script: nltk's); near synonyms: {synonyms}"
)
_WITH = "vectors of en_core_web_lg more than 0.8 alike, as released"
_WITHOUT = "none, since en_core_web_lg is not installed (released script: its vectors more than 0.8 alike)"


def score(
    questions: list[dict],
    answers: list[dict],
    *,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """AMBER's numbers of descriptions, of yes/no answers, or of both.

    Precision, recall and F1 have "no" as the positive class. The released script adds 0.0001 (0.001 for
    existence) to F1's denominator and rounds to one decimal on the way, which moves it by less than 0.1.

    Args:
      questions: from `read` or `benchmark.requests`; answered requests serve as both.
      answers: records with the query's id and the answer's text, see `benchmark.pair`.
      dropped: reason → places of the records that reading the files left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`; `chair`, `cover`, `hal`, `cog`, `mean_words` of the descriptions, None where none
      was asked for; `accuracy`, `precision`, `recall`, `f1` of the yes/no questions by the official rule and,
      as `…_robust`, by the yes or no that the answer states, likewise; `amber_score` of both; `by`
      ({dimension: {group: n, accuracy, …}}); `unread`; the entries of `benchmark.Answered.about`;
      `intervals`; `rule`; `per_image`. Unanswered descriptions are left out.

    Raises:
      UserError: questions and answers do not belong together; see `benchmark.pair`.
    """
    left = "count as wrong where they ask for yes or no, else are left out"
    answered = pair(questions, answers, _fits, dropped, left)
    lines: dict[str, np.ndarray] = {}
    by: dict[str, dict[str, Counter]] = {}
    described = [(q, text) for q, text in answered.pairs if "scene" in q and text is not None]
    vectors = installed_vectors() if described else None
    similar = near_synonyms(vectors)
    nouns_in = nouns_of([text for _, text in described]) if described else []  # loads the tagger
    for (question, text), nouns in zip(described, nouns_in, strict=True):
        _add(lines, question, _description(question["scene"], nouns, text, similar))
    asked = [(q, answer) for q, answer in answered.pairs if "scene" not in q]
    for question, answer in asked:
        verdict = _answer(question["label"], answer)
        _add(lines, question, verdict)
        for dimension, group in memberships(question):
            by.setdefault(dimension, {}).setdefault(group, Counter()).update(verdict)
    if not lines:
        raise UserError(f"nothing left to score: {len(questions)} descriptions, none with a text")
    counts = np.stack(list(lines.values()))
    total = dict(zip(COLUMNS, counts.sum(axis=0).tolist(), strict=True))
    about = answered.about
    read_as = partial(unread, total=sum(text is not None for _, text in asked))
    about["warnings"] += read_as(total["unread"], rule="official rule", what="Yes or No")
    about["warnings"] += read_as(total["unread_robust"], rule="robust rule", what="yes or no")
    if described and vectors is None:
        about["warnings"].append(
            "spaCy's en_core_web_lg is not installed, so near synonyms count as invented: CHAIR, Cover, Hal "
            "and Cog are not AMBER's own figures"
        )
    wanted = {
        **(DESCRIBED if total["descriptions"] else {}),
        **(ANSWERED if asked else {}),
        **(BOTH if asked and total["descriptions"] else {}),
    }
    return {
        "metric": "amber",
        **{
            name: bootstrap.value(counts, metric) if name in wanted else None
            for name, metric in METRICS.items()
        },
        "n_images": len(lines),
        "n_descriptions": total["descriptions"],
        "unread": {"official": total["unread"], "robust": total["unread_robust"]},
        **about,
        "by": {
            dimension: {group: _numbers(count) for group, count in groups.items()}
            for dimension, groups in by.items()
        },
        "intervals": bootstrap.intervals(counts, wanted, draws=draws, seed=seed),
        "rule": RULE.format(synonyms=_WITH if vectors or not described else _WITHOUT),
        "per_image": bootstrap.per_image(list(lines), COLUMNS, counts),
    }


def _add(lines: dict[str, np.ndarray], question: dict, counts: dict[str, int]) -> None:
    row = lines.setdefault(question["image"], np.zeros(len(COLUMNS), int))
    for name, count in counts.items():
        row[_AT[name]] += count


def _description(listed: dict, nouns: list[str], text: str, similar: Similar) -> dict[str, int]:
    """The counts of one description."""
    scene = Scene(
        tuple(listed["truth"]),
        tuple(listed["feared"]),
        listed["association"],
        frozenset(listed["vocabulary"].split("\n")),
        frozenset(listed["safe"].split("\n")),
    )
    found = find(nouns, scene, similar)
    return {
        "descriptions": 1,
        "hallucinated": int(found.invented > 0),
        "nouns": found.nouns,
        "nouns_invented": found.invented,
        "objects": len(scene.truth),
        "objects_named": found.covered,
        "feared": len(scene.feared),
        "feared_named": found.feared,
        "words": len(text.split()),
    }


def _answer(label: str, text: str | None) -> dict[str, int]:
    """The counts of one answer to a yes/no question; None is no answer, and wrong."""
    counts = {"questions": 1, "no_labels": int(label == "no")}
    if text is None:
        return counts
    readings = {"": {"Yes": "yes", "No": "no"}.get(text, "unknown"), "_robust": parse_stated(text)}
    for suffix, said in readings.items():
        counts |= {
            f"right{suffix}": int(said == label),
            f"said_no{suffix}": int(said == "no"),
            f"no_right{suffix}": int(said == label == "no"),
            f"unread{suffix}": int(said == "unknown"),
        }
    return counts


def _numbers(count: Counter) -> dict[str, Any]:
    """The numbers of one group of yes/no questions."""
    sums = np.array([[count[name] for name in COLUMNS]], float)
    shown = ("accuracy", "accuracy_robust", "f1", "f1_robust")
    return {"n": count["questions"], **{name: bootstrap.value(sums, ANSWERED[name]) for name in shown}}


def _fits(question: dict) -> bool:
    """Whether a question is one of AMBER's: yes/no, or a description with the lists that it is judged by."""
    if not isinstance(question.get("image"), str):
        return False
    if "scene" not in question:
        return question["label"] in ("yes", "no")
    scene = question["scene"]
    return (
        isinstance(scene, dict)
        and all(is_texts(scene.get(name)) for name in ("truth", "feared"))
        and all(isinstance(scene.get(name), str) for name in ("vocabulary", "safe"))
        and isinstance(scene.get("association"), dict)
        and all(is_texts(scene["association"].get(name)) for name in (*scene["truth"], *scene["feared"]))
    )


def is_texts(value: Any) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
