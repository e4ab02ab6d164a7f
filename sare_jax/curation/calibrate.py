"""Thresholds from a few hundred labelled objects: the largest sets that reach a wanted precision.

On the labels by which it was chosen, a threshold looks better than it is. So the record also holds a
held-out precision with its 95 % interval: the labelled captions are divided into five parts, and a threshold
chosen on four of them is measured on the fifth.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sare_jax.curation.extraction import Scored
from sare_jax.curation.select import Thresholds, by_quantiles
from sare_jax.curation.truth import Marks, Truth
from sare_jax.errors import UserError
from sare_jax.settings import AuditThresholds, QuantileThresholds

FEWEST = 20
"""Labelled objects that a set must hold before its precision counts."""

_FOLDS = 5
_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Labelled:
    """Labelled objects as arrays of length n.

    Attributes:
      caption: int[n], index of the object's caption in the sample.
      score: float64[n], S(o), the object's CLIP score.
      mean: float64[n], S(y), the mean score of the object's caption.
      present: bool[n], whether the object is in the image.
    """

    caption: np.ndarray
    score: np.ndarray
    mean: np.ndarray
    present: np.ndarray

    def where(self, kept: np.ndarray) -> "Labelled":
        """The objects for which `kept`, bool[n], is true."""
        return Labelled(self.caption[kept], self.score[kept], self.mean[kept], self.present[kept])


@dataclass(frozen=True)
class Audit:
    """The way to choose thresholds by labelled objects.

    Attributes:
      truth: says of an object whether it is in the image.
      settings: wanted precisions, number of labelled objects to draw, and the draw's seed.
    """

    truth: Truth | Marks
    settings: AuditThresholds

    def thresholds(self, kept: Sequence[Scored], clip_id: str) -> Thresholds:
        """Chooses T0, T1 and T2.

        If the scores of present and absent objects hardly overlap, T1 may come out above T0; then T0 is
        raised to T1.

        Args:
          kept: captions with their objects' scores.
          clip_id: id of the CLIP model that the scores come from.

        Raises:
          UserError: too few labels, or no threshold reaches a precision; names the best that one reaches.
        """
        settings = self.settings
        labelled = sample(kept, self.truth, settings.objects, settings.seed)
        if len(labelled.score) < 2 * FEWEST:
            raise UserError(
                f"curate.thresholds.kind=audit: {len(labelled.score)} labelled objects among these captions; "
                f"at least {2 * FEWEST} are needed, and a few hundred are better; label more, or choose "
                "thresholds by quantiles"
            )
        wanted = {"t0": settings.p0, "t1": settings.p1, "t2": settings.p2}
        limits = {name: choose(name, labelled, precision) for name, precision in wanted.items()}
        raised = limits["t1"] > limits["t0"]
        limits["t0"] = max(limits["t0"], limits["t1"])
        record = {name: _described(name, labelled, wanted[name], limits[name]) for name in limits}
        how = {"how": f"audit by {len(labelled.score)} labelled objects", "t0_raised_to_t1": raised}
        return Thresholds(**limits, model=clip_id, chosen=how | {"seed": settings.seed} | record)


def chosen(
    limits: Thresholds | QuantileThresholds | Audit, kept: Sequence[Scored], clip_id: str
) -> Thresholds:
    """Thresholds as numbers: given ones as they are, others chosen from the scores.

    Args:
      limits: the thresholds, or how to choose them.
      kept: captions with their objects' scores.
      clip_id: id of the CLIP model that the scores come from.
    """
    if isinstance(limits, QuantileThresholds):
        return by_quantiles(limits, [entry.scores for entry in kept], clip_id)
    return limits.thresholds(kept, clip_id) if isinstance(limits, Audit) else limits


def sample(kept: Sequence[Scored], truth: Truth | Marks, objects: int, seed: int) -> Labelled:
    """Draws whole captions at random until they hold at least `objects` labelled objects, or takes all."""
    order = list(range(len(kept)))
    random.Random(seed).shuffle(order)
    objects_drawn: list[tuple[int, float, float, bool]] = []
    for position, index in enumerate(order):
        if len(objects_drawn) >= objects:
            break
        entry, mean = kept[index], float(kept[index].scores.mean(dtype=np.float64))
        for unit, score in zip(entry.units, entry.scores, strict=True):
            verdict = truth.verdict(entry.caption, unit)
            if verdict is not None:
                objects_drawn.append((position, float(score), mean, verdict))
    return Labelled(
        np.array([row[0] for row in objects_drawn], np.int64),
        np.array([row[1] for row in objects_drawn], np.float64),
        np.array([row[2] for row in objects_drawn], np.float64),
        np.array([row[3] for row in objects_drawn], bool),
    )


def choose(name: str, labelled: Labelled, precision: float) -> float:
    """Chooses the threshold whose set is the largest with at least the wanted precision.

    The threshold lies halfway between the last score of the set and the next one.

    Args:
      name: `t0` (its set: objects with S(o) above it, right if present), `t1` (objects with S(o) below it,
        right if absent) or `t2` (objects of captions with S(y) above it, right if present).
      labelled: the labelled objects.
      precision: wanted share of right objects in the set, from 0 to 1.

    Raises:
      UserError: no set of at least `FEWEST` objects has that precision.
    """
    size, right, edges = _nested(name, labelled)
    share = right / size
    good = np.flatnonzero((share >= precision) & (size >= FEWEST))
    if not len(good):
        large = np.flatnonzero(size >= FEWEST)
        best = large[np.argmax(share[large])] if len(large) else len(size) - 1
        raise UserError(
            f"curate.thresholds.p{name[1]} = {precision:g}: no {name} gives that precision; the best is "
            f"{100 * share[best]:.1f} % of {size[best]} labelled objects; lower it, label more "
            "objects, or use a CLIP model that tells them apart"
        )
    return float(edges[good[-1]])


def wilson(right: int, size: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the share right / size; (0, 1) if `size` is 0."""
    if not size:
        return 0.0, 1.0
    share, z = right / size, _Z
    middle = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    return max(0.0, middle - half), min(1.0, middle + half)


def told(limits: Thresholds) -> list[str]:
    """A line of text per threshold that an audit chose: its value and precisions."""
    lines = []
    for name in ("t0", "t1", "t2"):
        entry = limits.chosen[name]
        lines.append(
            f"{name} = {getattr(limits, name):.3f}: wanted {100 * entry['wanted']:.1f} %; on the labels "
            f"{entry['right']}/{entry['size']}; held out {entry['held_out_right']}/{entry['held_out_size']}, "
            f"95 % interval {100 * entry['low']:.1f} to {100 * entry['high']:.1f} %"
        )
    return lines


def _nested(name: str, labelled: Labelled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sets that thresholds can cut out, each within the next, from the most extreme score to all objects.

    Returns:
      Of each set, as arrays of one length: its number of objects, its number of right objects (absent for
      `t1`, present otherwise), and its threshold, halfway to the next score.
    """
    sign = 1.0 if name == "t1" else -1.0
    value = sign * (labelled.mean if name == "t2" else labelled.score)
    order = np.argsort(value, kind="stable")
    value, right = value[order], (~labelled.present if name == "t1" else labelled.present)[order]
    last = np.append(value[1:] != value[:-1], True)  # no threshold lies between equal scores
    after = np.append(value[1:], value[-1:] + 1.0)
    edges = sign * (value + after) / 2
    return (np.arange(len(value)) + 1)[last], np.cumsum(right)[last], edges[last]


def _described(name: str, labelled: Labelled, wanted: float, limit: float) -> dict:
    right, size = _measured(name, labelled, limit)
    folds: list[tuple[int, int]] = []
    for fold in range(_FOLDS):
        held_out = labelled.caption % _FOLDS == fold
        try:
            chosen_limit = choose(name, labelled.where(~held_out), wanted)
        except UserError:
            continue
        folds.append(_measured(name, labelled.where(held_out), chosen_limit))
    held_out_right, held_out_size = sum(fold[0] for fold in folds), sum(fold[1] for fold in folds)
    low, high = wilson(held_out_right, held_out_size)
    return {
        "wanted": wanted,
        "right": right,
        "size": size,
        "held_out_right": held_out_right,
        "held_out_size": held_out_size,
        "held_out_parts": len(folds),
        "low": low,
        "high": high,
    }


def _measured(name: str, labelled: Labelled, limit: float) -> tuple[int, int]:
    """Numbers of right objects and of all objects in a threshold's set, by the strict rules of `select`."""
    value = labelled.mean if name == "t2" else labelled.score
    chosen = value < limit if name == "t1" else value > limit
    right = ~labelled.present if name == "t1" else labelled.present
    return int(right[chosen].sum()), int(chosen.sum())
