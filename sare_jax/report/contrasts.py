"""Differences between two runs, by paired bootstrap if the results hold counts by image."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.compare import compare, counts_of, told_apart
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report.measures import Value, benchmarks_in, metrics_in, value
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec
from sare_jax.schema import checked
from sare_jax.settings.building import LARGEST_SEED
from sare_jax.settings.evaluate import MOST_DRAWS

Verdict = Literal["better", "worse", "none"]


class Number(NamedTuple):
    """A measured number, and its 95 % interval (low, high) if it has one."""

    number: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Contrast:
    """Run a against run b under one setting.

    Attributes:
      a, b: the runs' numbers, in the measure's unit (percent for most).
      difference: a − b, in the same unit.
      interval: paired 95 % interval of the difference; None if the results hold no counts by image.
      verdict: whether a is better or worse than b. Without a paired interval, overlapping intervals of a and
        b give `none`.
      n, discordant: number of images that were compared, and of those among them whose values differ.
      p: two-sided p-value of the difference; None if the results hold no counts by image.
    """

    a: Number
    b: Number
    difference: float
    interval: tuple[float, float] | None
    verdict: Verdict
    n: int = 0
    discordant: int = 0
    p: float | None = None


def measured(inputs: Inputs, run: str, setting: str, measure: Measure) -> Value:
    """A run's number under one setting, or the reason why there is none."""
    return value(inputs.result(run, setting), measure, f"metrics/{run}/{setting}.json")


def contrast(
    inputs: Inputs, spec: ReportSpec, a: str, b: str, setting: str, measure: Measure
) -> Contrast | None:
    """Compares two runs.

    Args:
      inputs: contents of the workdir; differences are kept in its cache.
      spec: names the metrics whose counts can be paired.
      a: key of the run that the verdict is about.
      b: key of the run that it is compared with.
      setting: key of the condition of both.
      measure: the number to compare.

    Returns:
      The contrast, or None if either run was not measured.

    Raises:
      UserError: the two were measured by different rules.
    """
    one, other = (measured(inputs, run, setting, measure) for run in (a, b))
    if one.number is None or other.number is None:
        return None
    first, second = Number(one.number, one.interval), Number(other.number, other.interval)
    difference = first.number - second.number
    paired = _paired(inputs, spec, a, b, setting, measure)
    if paired is None:
        return Contrast(first, second, difference, None, _unpaired(first, second, measure))
    low, high = paired["interval"]
    interval = (low * measure.scale, high * measure.scale)
    discordant = paired["discordant"]
    verdict = _verdict(interval, measure) if told_apart(interval, discordant) else "none"
    return Contrast(first, second, difference, interval, verdict, paired["n"], discordant, paired["p"])


def restored(inputs: Inputs, spec: ReportSpec, run: str, setting: str) -> float | None:
    """Share of a run's erasure that an attack undoes: (attacked − origin) / (base − origin), of CHAIR_S.

    None if nothing was erased, or if one of the three was not measured.
    """
    base = measured(inputs, spec.base, "origin", CHAIR_S).number
    origin = measured(inputs, run, "origin", CHAIR_S).number
    after = measured(inputs, run, setting, CHAIR_S).number
    if base is None or origin is None or after is None or base - origin <= 0:
        return None
    return (after - origin) / (base - origin)


def _paired(
    inputs: Inputs, spec: ReportSpec, a: str, b: str, setting: str, measure: Measure
) -> dict[str, Any] | None:
    """What `compare` says of a − b, over the images on which both runs were measured; None if nothing."""
    key = (a, b, setting, measure.path[0])
    if key not in inputs.cache:
        inputs.cache[key] = _differences(inputs, spec, *key)
    return inputs.cache[key].get(measure.result_name)


def _differences(
    inputs: Inputs, spec: ReportSpec, a: str, b: str, setting: str, section: str
) -> dict[str, dict]:
    """Dotted name → paired difference of a metric's numbers; empty if a result holds no counts by image."""
    result_a, result_b = inputs.result(a, setting) or {}, inputs.result(b, setting) or {}
    after, before = (with_counts(result.get(section)) for result in (result_a, result_b))
    if not after or not before:
        return {}
    try:
        known = counts_of(metrics_in(spec), benchmarks_in(spec))
        drawn = sampling(result_a)
        return compare({section: before}, {section: after}, known=known, **drawn)["metrics"]
    except UserError as error:
        raise UserError(f"metrics/{b}/{setting}.json, metrics/{a}/{setting}.json: {error}") from None


def with_counts(result: Any) -> dict:
    """A result reduced to the parts that hold counts by image."""
    if not isinstance(result, dict):
        return {}
    if "per_image" in result:
        return {key: part for key, part in result.items() if key != "robust"}
    parts = {key: with_counts(part) for key, part in result.items()}
    return {key: part for key, part in parts.items() if part}


@dataclass(frozen=True)
class _Bootstrap:
    draws: int = bootstrap.DRAWS
    seed: int = 0


def sampling(result: dict) -> dict[str, int]:
    """Bootstrap `draws` and `seed` of a result's own intervals, to be used for paired ones, too."""
    stated = checked(result.get("bootstrap") or {}, _Bootstrap, "bootstrap")
    if not (1 <= stated.draws <= MOST_DRAWS and 0 <= stated.seed <= LARGEST_SEED):
        raise UserError(
            f"bootstrap: {stated.draws} draws and a seed of {stated.seed} are none that was drawn"
        )
    return dataclasses.asdict(stated)


def _unpaired(a: Number, b: Number, measure: Measure) -> Verdict:
    if not (a.interval and b.interval):
        return "none"
    difference = (a.interval[0] - b.interval[1], a.interval[1] - b.interval[0])
    return _verdict(difference, measure) if difference[0] > 0 or difference[1] < 0 else "none"


def _verdict(interval: tuple[float, float], measure: Measure) -> Verdict:
    """The verdict on a difference whose interval excludes 0."""
    return "better" if (interval[1] < 0) == (measure.better == "lower") else "worse"
