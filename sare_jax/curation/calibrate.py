"""Thresholds from a few hundred labelled objects: the widest sets that have a wanted precision.

A threshold that was chosen on some labels looks better on them than it is. So besides the precision on the
labels the record holds a held-out one: the labels' captions in five parts, each limit chosen on four of them
and measured on the fifth, with its 95 % interval.
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
    """Labelled captions as arrays, an entry an object.

    Attributes:
      caption: int[n], place of the caption in the sample.
      score: float64[n], S(o).
      mean: float64[n], S(y) of the caption.
      present: bool[n], whether the thing is in the image.
    """

    caption: np.ndarray
    score: np.ndarray
    mean: np.ndarray
    present: np.ndarray

    def where(self, kept: np.ndarray) -> "Labelled":
        """The part for which bool[n] `kept` holds."""
        return Labelled(self.caption[kept], self.score[kept], self.mean[kept], self.present[kept])


@dataclass(frozen=True)
class Audit:
    """Thresholds by labelled objects.

    Attributes:
      truth: the labels.
      settings: wanted precisions, and how many labelled objects are used.
    """

    truth: Truth | Marks
    settings: AuditThresholds

    def thresholds(self, kept: Sequence[Scored], clip_id: str) -> Thresholds:
        """Chooses T0, T1 and T2.

        Where objects in and not in the image are so far apart that T1 would lie above T0, T0 is raised to it.

        Args:
          kept: scored captions.
          clip_id: model that the scores come from.

        Raises:
          UserError: too few labels, or a precision that no limit reaches; says which was the best.
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
    """The limits as numbers, whichever way they are chosen.

    Args:
      limits: the numbers, or the way to them.
      kept: scored captions.
      clip_id: model that the scores come from.
    """
    if isinstance(limits, QuantileThresholds):
        return by_quantiles(limits, [entry.scores for entry in kept], clip_id)
    return limits.thresholds(kept, clip_id) if isinstance(limits, Audit) else limits


def sample(kept: Sequence[Scored], truth: Truth | Marks, objects: int, seed: int) -> Labelled:
    """Draws whole captions until they have so many labelled objects; all there are where that is too many."""
    order = list(range(len(kept)))
    random.Random(seed).shuffle(order)
    rows: list[tuple[int, float, float, bool]] = []
    for place, index in enumerate(order):
        if len(rows) >= objects:
            break
        entry, mean = kept[index], float(kept[index].scores.mean(dtype=np.float64))
        for unit, score in zip(entry.units, entry.scores, strict=True):
            verdict = truth.verdict(entry.caption, unit)
            if verdict is not None:
                rows.append((place, float(score), mean, verdict))
    return Labelled(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float64),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], bool),
    )


def choose(name: str, labelled: Labelled, precision: float) -> float:
    """The limit whose set is the largest that has a precision; halfway to the next score.

    Args:
      name: `t0` (S(o) above it is present), `t1` (S(o) below it is absent) or `t2` (objects of captions with
        S(y) above it are present).
      labelled: the labels.
      precision: wanted share of right objects.

    Raises:
      UserError: no set of at least `FEWEST` objects has it.
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
    """The 95 % interval of a share by Wilson's rule; from 0 to 1 where there is nothing."""
    if not size:
        return 0.0, 1.0
    share, z = right / size, _Z
    middle = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    return max(0.0, middle - half), min(1.0, middle + half)


def told(limits: Thresholds) -> list[str]:
    """What a person wants to know of limits that an audit chose, a line each."""
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
    """Size, right ones and limit of every set that a limit can cut out, from the surest to all."""
    sign = 1.0 if name == "t1" else -1.0
    value = sign * (labelled.mean if name == "t2" else labelled.score)
    order = np.argsort(value, kind="stable")
    value, right = value[order], (~labelled.present if name == "t1" else labelled.present)[order]
    last = np.append(value[1:] != value[:-1], True)  # equal scores fall on one side
    after = np.append(value[1:], value[-1:] + 1.0)
    edges = sign * (value + after) / 2
    return (np.arange(len(value)) + 1)[last], np.cumsum(right)[last], edges[last]


def _described(name: str, labelled: Labelled, wanted: float, limit: float) -> dict:
    right, size = _measured(name, labelled, limit)
    held_right, held_size, folds = 0, 0, 0
    for fold in range(_FOLDS):
        aside = labelled.caption % _FOLDS == fold
        try:
            found = choose(name, labelled.where(~aside), wanted)
        except UserError:
            continue
        counts = _measured(name, labelled.where(aside), found)
        held_right, held_size, folds = held_right + counts[0], held_size + counts[1], folds + 1
    low, high = wilson(held_right, held_size)
    return {
        "wanted": wanted,
        "right": right,
        "size": size,
        "held_out_right": held_right,
        "held_out_size": held_size,
        "held_out_parts": folds,
        "low": low,
        "high": high,
    }


def _measured(name: str, labelled: Labelled, limit: float) -> tuple[int, int]:
    """Right ones and size of the set that a limit cuts out, by the strict rules of `select`."""
    value = labelled.mean if name == "t2" else labelled.score
    chosen = value < limit if name == "t1" else value > limit
    right = ~labelled.present if name == "t1" else labelled.present
    return int(right[chosen].sum()), int(chosen.sum())
