"""Separation: how far log-odds tell objects that are in the picture from those that are not.

At an opening a caption is about to name an object and could have named another one. The model gives every
object a probability p there. Objects that the caption has not named before are measured, present and absent
ones, each by its log-odds log p / (1 − p). Log-odds have no bound, as CHAIR_S has at 100 %; so they still
move where unlearning or relearning has driven CHAIR_S to its end.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.columns import Measure, ungrouped

RULE = (
    "at openings of the base model's own captions: p = probability of the phrase's words before the name "
    "times that of the name's first token; objects that no word before has named; present by instances and "
    "reference captions"
)
COLUMNS = (
    "present",
    "present_log_odds",
    "absent",
    "absent_log_odds",
    "grounded",
    "grounded_log_odds",
    "invented",
    "invented_log_odds",
)
METRICS: dict[str, bootstrap.Metric] = {
    name: bootstrap.ratio(COLUMNS.index(f"{name}_log_odds"), COLUMNS.index(name), scale=1.0)
    for name in COLUMNS[::2]
}
COUNTS = {"separation": ungrouped(COLUMNS, METRICS)}

AUC = Measure(
    "auc",
    "AUC",
    ("separation", "auc"),
    "higher",
    digits=3,
    help="Probability that an object in the picture has the higher log-odds than one that is not in it.",
)
INVENTED = Measure(
    "invented",
    "log-odds of invented objects",
    ("separation", "invented"),
    "lower",
    digits=2,
    help="Mean log-odds, in nats, of the objects that the base model named where they were not.",
)
GROUNDED = Measure(
    "grounded",
    "log-odds of grounded objects",
    ("separation", "grounded"),
    "higher",
    digits=2,
    help="Mean log-odds, in nats, of the objects that the base model named where they were.",
)


class Choices(NamedTuple):
    """What could be named at some openings, K choices in all.

    Attributes:
      image: int[K], the image's place in `score`'s `image_ids`.
      log_odds: float[K], log p / (1 − p) of naming the object, in nats.
      present: bool[K], whether the object is in the picture.
      named: bool[K], whether the caption names it at this opening.
    """

    image: np.ndarray
    log_odds: np.ndarray
    present: np.ndarray
    named: np.ndarray


def score(
    image_ids: Sequence[int], choices: Choices, *, draws: int = bootstrap.DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Separation of some images' objects.

    Args:
      image_ids: COCO ids of the n images.
      choices: the objects that could be named at the openings of these images' captions.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`, mean log-odds of `present`, `absent`, `grounded` (named and present) and `invented`
      (named and absent) objects, `auc` and `auc_named` of present against absent among all and among the
      named (None where either is missing), `intervals`, `n` images, `n_openings`, `rule`, `per_image`.
    """
    counts = _counts(len(image_ids), choices)
    named = Choices(*(column[choices.named] for column in choices))
    aucs, intervals = {}, bootstrap.intervals(counts, METRICS, draws=draws, seed=seed)
    for name, part in (("auc", choices), ("auc_named", named)):
        drawn = _aucs(part, bootstrap.resamples(len(image_ids), draws, seed))
        aucs[name] = auc(part.log_odds, part.present)
        if aucs[name] is not None and np.isfinite(drawn).all():
            intervals[name] = [float(edge) for edge in np.percentile(drawn, [2.5, 97.5])]
    return {
        "metric": "separation",
        **{name: bootstrap.value(counts, metric) for name, metric in METRICS.items()},
        **aucs,
        "intervals": intervals,
        "n": len(image_ids),
        "n_openings": int(choices.named.sum()),
        "rule": RULE,
        "per_image": bootstrap.per_image(image_ids, COLUMNS, counts),
    }


def log_odds(log_probs: np.ndarray) -> np.ndarray:
    """Log p / (1 − p) from log p; finite for every p up to 1."""
    below_one = np.minimum(np.asarray(log_probs, float), -1e-9)
    return below_one - np.log(-np.expm1(below_one))


def auc(values: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """Probability that a positive's value is above a negative's, ties counting half; None without either.

    Args:
      values: float[K], the scores to rank by.
      positive: bool[K], which of them should rank above the others.
      weights: float[K], how often each value counts; None counts each once.
    """
    weights = np.ones(len(values)) if weights is None else weights
    pairs = weights[positive].sum() * weights[~positive].sum()
    if pairs == 0:
        return None
    levels, place = np.unique(values, return_inverse=True)
    below = np.bincount(place, weights=weights * ~positive, minlength=len(levels))
    ranks = np.cumsum(below) - below / 2
    return float((np.where(positive, weights, 0) * ranks[place]).sum() / pairs)


def _aucs(choices: Choices, multiplicities: np.ndarray) -> np.ndarray:
    """`auc` in each resample of the images, float[draws]; NaN where a resample has no pair."""
    levels, place = np.unique(choices.log_odds, return_inverse=True)
    aucs = np.full(len(multiplicities), np.nan)
    for draw, times in enumerate(multiplicities):
        weights = times[choices.image]
        below = np.bincount(place, weights=weights * ~choices.present, minlength=len(levels))
        above = np.bincount(place, weights=weights * choices.present, minlength=len(levels))
        pairs = below.sum() * above.sum()
        if pairs:
            aucs[draw] = (above * (np.cumsum(below) - below / 2)).sum() / pairs
    return aucs


def _counts(images: int, choices: Choices) -> np.ndarray:
    """float[n, 8], for each image the counts and the sums of log-odds that `COLUMNS` names."""
    columns = []
    for chosen in (
        choices.present,
        ~choices.present,
        choices.named & choices.present,
        choices.named & ~choices.present,
    ):
        image = choices.image[chosen]
        columns.append(np.bincount(image, minlength=images).astype(float))
        columns.append(np.bincount(image, weights=choices.log_odds[chosen], minlength=images))
    return np.stack(columns, axis=1)
