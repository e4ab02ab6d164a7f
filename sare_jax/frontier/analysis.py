"""Numbers from frontiers: values at a recall, differences and areas, with intervals over seeds and images.

A method's curve is the mean of its runs at each weight. Each resample draws base models, seeds within
each of them, and images, all with replacement. All methods and the base model take the same draws, so
differences of methods are paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sare_jax.evaluation import bootstrap
from sare_jax.frontier.curves import area_between, common_range, value_at

# Share of the resamples that must reach a recall for an interval there. An interval from fewer would describe
# only the resamples that happen to reach it.
LEAST_REACHED = 0.9
CAPTIONS, HALLUCINATED, FOUND, TRUE, WORDS = COLUMNS = range(5)
"""Columns of an image's counts."""

Sample = tuple[str, int]
"""Base model (the workdir's name) and seed."""


@dataclass(frozen=True)
class Run:
    """One run of a method.

    Attributes:
      name: the run's name in its workdir, as in the config.
      method: name of the method that it is a run of.
      weight: value of the setting that grows along the method's curve.
      sample: name of the base model (its workdir), and the seed.
      before, after: float[n, 5], counts of each image before and after the attack: captions, hallucinated
        ones, objects named, objects in the image, words. All runs have the same images in the same order.
    """

    name: str
    method: str
    weight: float
    sample: Sample
    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True)
class Base:
    """A base model before and after the same attack; `after` is None where it was not attacked."""

    before: np.ndarray
    after: np.ndarray | None


@dataclass(frozen=True)
class Curve:
    """A method over its weight: as measured, and in each resample.

    Attributes:
      weights: float[W], rising.
      recall, before, after, recall_after: float[1 + draws, W], recall and CHAIR_S before and after the attack
        in percent. Row 0 is what was measured; NaN where a resample holds no run of a weight.
      words: float[1 + draws, W], mean number of words of a caption before the attack.
    """

    weights: np.ndarray
    recall: np.ndarray
    before: np.ndarray
    after: np.ndarray
    recall_after: np.ndarray
    words: np.ndarray

    def at(self, values: np.ndarray, recall: float) -> np.ndarray:
        """float[1 + draws]: the values at a recall before the attack."""
        return np.array([value_at(x, y, recall) for x, y in zip(self.recall, values, strict=True)])


def analyse(
    runs: Sequence[Run],
    bases: Mapping[str, Base],
    recalls: Sequence[float],
    reference: str,
    *,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Curves, values at some recalls, and differences from a reference method.

    Args:
      runs: the runs of all methods, on the same images.
      bases: name of a base model → its counts before and after the attack, on the same images.
      recalls: recall before the attack, in percent, at which curves are read.
      reference: name of the method that the others are compared with.
      draws: how many times base models, seeds and images are resampled.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able. `methods`: by name `points` (a weight each: `weight`, `runs`, `recall`, `before`, `after`,
      `recall_after`, `words`, `given_back`, `excess`), `range` of recall, and `at`, one entry a recall with
      `before`, `after`, `words`, `given_back`, `excess`. `differences`: method − reference at each
      recall. `areas`: between their curves over their common `range`, `before` and `after`, each with the
      signed `area` and the `mean` distance, which is the area divided by the range's width. Every number is
      {"value", "interval", "reached"}: None where the curve does not reach the recall; the 95 % interval,
      None where less than `LEAST_REACHED` of the resamples reach it; and the share that does.
    """
    samples = sorted({run.sample for run in runs})
    taken = _samples_taken(samples, draws, seed)
    images = np.concatenate(
        [np.ones((1, len(runs[0].before))), bootstrap.resamples(len(runs[0].before), draws, seed)]
    )
    curves = {
        method: _curve([run for run in runs if run.method == method], samples, taken, images)
        for method in dict.fromkeys(run.method for run in runs)
    }
    by_base = _given_back_by_base(bases, samples, taken, images)
    analysis: dict[str, Any] = {
        "methods": {
            method: {
                "points": _points(curve, [run for run in runs if run.method == method], by_base),
                "range": [float(np.nanmin(curve.recall[0])), float(np.nanmax(curve.recall[0]))],
                "at": [{"recall": recall} | _numbers(_at(curve, recall, by_base)) for recall in recalls],
            }
            for method, curve in curves.items()
        },
        "differences": [],
        "areas": [],
    }
    others = [method for method in curves if method != reference] if reference in curves else []
    for method in others:
        one, other = curves[reference], curves[method]
        for recall in recalls:
            first, second = (_at(curve, recall, by_base) for curve in (one, other))
            change = {key: second[key] - first[key] for key in first}
            entry = {"reference": reference, "method": method, "recall": recall}
            analysis["differences"].append(entry | _numbers(change))
        analysis["areas"].append({"reference": reference, "method": method} | _areas(one, other))
    return analysis


def number(values: np.ndarray) -> dict[str, Any]:
    """A number with its interval, from the measured value and the resampled ones, float[1 + draws]."""
    drawn = values[1:][np.isfinite(values[1:])]
    reached = len(drawn) / max(1, len(values) - 1)
    measured = np.isfinite(values[0])
    edges = [float(edge) for edge in np.percentile(drawn, [2.5, 97.5])] if len(drawn) else None
    return {
        "value": float(values[0]) if measured else None,
        "interval": edges if measured and reached >= LEAST_REACHED else None,
        "reached": round(reached, 3),
    }


def _numbers(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {key: number(drawn) for key, drawn in values.items()}


def _at(curve: Curve, recall: float, by_base: np.ndarray) -> dict[str, np.ndarray]:
    before, after = curve.at(curve.before, recall), curve.at(curve.after, recall)
    return {
        "before": before,
        "after": after,
        "words": curve.at(curve.words, recall),
        "given_back": after - before,
        "excess": after - before - by_base,
    }


def _points(curve: Curve, runs: list[Run], by_base: np.ndarray) -> list[dict[str, Any]]:
    points = []
    for place, weight in enumerate(curve.weights):
        values = {
            key: getattr(curve, key)[:, place]
            for key in ("recall", "before", "after", "recall_after", "words")
        }
        values["given_back"] = values["after"] - values["before"]
        values["excess"] = values["given_back"] - by_base
        count = sum(bool(run.weight == weight) for run in runs)
        points.append({"weight": float(weight), "runs": count} | _numbers(values))
    return points


def _areas(one: Curve, other: Curve) -> dict[str, Any]:
    shared = [common_range(x, y) for x, y in zip(one.recall, other.recall, strict=True)]
    widths = np.array([pair[1] - pair[0] if pair else np.nan for pair in shared])
    areas_of: dict[str, Any] = {"range": list(shared[0]) if shared[0] else None}
    for key in ("before", "after"):
        first = zip(one.recall, getattr(one, key), strict=True)
        second = zip(other.recall, getattr(other, key), strict=True)
        areas = np.array([area_between(*pair) for pair in zip(first, second, strict=True)])
        areas_of[key] = {"area": number(areas), "mean": number(areas / widths)}
    return areas_of


def _curve(runs: list[Run], samples: list[Sample], taken: np.ndarray, images: np.ndarray) -> Curve:
    weights = np.unique([run.weight for run in runs])
    place = {sample: number for number, sample in enumerate(samples)}
    sums = np.zeros((2, len(images), len(weights), len(COLUMNS)))
    for run in runs:
        at = int(np.searchsorted(weights, run.weight))
        times = taken[:, place[run.sample], None]
        for side, counts in enumerate((run.before, run.after)):
            sums[side, :, at] += times * (images @ counts)
    return Curve(
        weights,
        recall=_percent(sums[0], FOUND, TRUE),
        before=_percent(sums[0], HALLUCINATED, CAPTIONS),
        after=_percent(sums[1], HALLUCINATED, CAPTIONS),
        recall_after=_percent(sums[1], FOUND, TRUE),
        words=_percent(sums[0], WORDS, CAPTIONS) / 100,
    )


def _percent(sums: np.ndarray, top: int, bottom: int) -> np.ndarray:
    """float[1 + draws, W] in percent; not a number where there is nothing."""
    whole = sums[..., bottom]
    return np.divide(100.0 * sums[..., top], whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _samples_taken(samples: list[Sample], draws: int, seed: int) -> np.ndarray:
    """How often each sample stands in each resample, float[1 + draws, S]; once each in row 0."""
    rng = np.random.default_rng([seed, 1])
    models = sorted({model for model, _ in samples})
    members = [[place for place, sample in enumerate(samples) if sample[0] == model] for model in models]
    taken = np.zeros((1 + draws, len(samples)))
    taken[0] = 1
    for draw in range(1, 1 + draws):
        for model in rng.integers(len(models), size=len(models)):
            chosen = rng.choice(members[model], size=len(members[model]))
            np.add.at(taken[draw], chosen, 1)
    return taken


def _given_back_by_base(
    bases: Mapping[str, Base], samples: list[Sample], taken: np.ndarray, images: np.ndarray
) -> np.ndarray:
    """What the attack adds to the base models, float[1 + draws]; not a number where one was not attacked."""
    sums = np.zeros((2, len(images), len(COLUMNS)))
    for place, (model, _) in enumerate(samples):
        base = bases.get(model)
        if base is None or base.after is None:
            return np.full(len(images), np.nan)
        for side, counts in enumerate((base.before, base.after)):
            sums[side] += taken[:, place, None] * (images @ counts)
    before, after = (_percent(side, HALLUCINATED, CAPTIONS) for side in sums)
    return after - before
