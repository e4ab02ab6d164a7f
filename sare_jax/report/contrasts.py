"""One run against another: paired bootstrap differences where the per-image counts allow it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sare_jax.evaluation import bootstrap, chair
from sare_jax.report.measures import CHAIR_S, Measure, Value, value
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec

Verdict = Literal["better", "worse", "none"]


@dataclass(frozen=True)
class Contrast:
    """Run a against run b under one setting.

    Attributes:
      a, b: the two values.
      difference: a − b.
      interval: paired 95 % interval of the difference; None where the metrics hold no counts by image.
      verdict: of a. Without a paired interval, two intervals that overlap count as no difference.
    """

    a: Value
    b: Value
    difference: float
    interval: tuple[float, float] | None
    verdict: Verdict


def measured(inputs: Inputs, run: str, setting: str, measure: Measure) -> Value:
    """One value of the result table."""
    return value(inputs.result(run, setting), measure, f"metrics/{run}/{setting}.json")


def contrast(inputs: Inputs, a: str, b: str, setting: str, measure: Measure) -> Contrast | None:
    """Compares two runs.

    Args:
      inputs: the workdir's artifacts.
      a: key of one run.
      b: key of the run that it is held against.
      setting: condition of both.
      measure: what is compared.

    Returns:
      None where either was not measured.
    """
    first, second = (measured(inputs, run, setting, measure) for run in (a, b))
    if first.number is None or second.number is None:
        return None
    interval = _paired(inputs.result(a, setting), inputs.result(b, setting), measure)
    verdict = _verdict(first, second, interval, measure)
    return Contrast(first, second, first.number - second.number, interval, verdict)


def restored(inputs: Inputs, spec: ReportSpec, run: str, setting: str) -> float | None:
    """Share of a run's erasure (CHAIR_S of base − origin) that an attack gives back.

    None where nothing was erased or not all three were measured.
    """
    base = measured(inputs, spec.base, "origin", CHAIR_S).number
    origin = measured(inputs, run, "origin", CHAIR_S).number
    after = measured(inputs, run, setting, CHAIR_S).number
    if base is None or origin is None or after is None or base - origin <= 0:
        return None
    return (after - origin) / (base - origin)


def _paired(a: dict, b: dict, measure: Measure) -> tuple[float, float] | None:
    """Bootstrap interval of a − b over the images that both runs were measured on."""
    section, key = measure.path[0], measure.path[-1]
    if section != "chair" or key not in chair.METRICS:
        return None
    tables = [result[section].get("per_image") for result in (a, b)]
    if not all(table and set(chair.COLUMNS) <= set(table) for table in tables):
        return None
    rows = [dict(zip(table["image_id"], _counts(table), strict=True)) for table in tables]
    shared = sorted(rows[0].keys() & rows[1].keys())
    if not shared:
        return None
    after, before = (np.array([side[image] for image in shared]) for side in rows)
    low, high = bootstrap.difference(before, after, chair.METRICS[key])["interval"]
    return low * measure.scale, high * measure.scale


def _counts(table: dict) -> np.ndarray:
    return np.array([table[column] for column in chair.COLUMNS], float).T


def _verdict(a: Value, b: Value, interval: tuple[float, float] | None, measure: Measure) -> Verdict:
    if interval is not None:
        below, above = interval[1] < 0, interval[0] > 0
    elif a.interval and b.interval:
        below, above = a.interval[1] < b.interval[0], a.interval[0] > b.interval[1]
    else:
        below = above = False
    if not below and not above:
        return "none"
    return "better" if below == (measure.better == "lower") else "worse"
