"""One run against another: paired bootstrap differences where the per-image counts allow it."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sare_jax.errors import UserError
from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.compare import compare, counts_of, told_apart
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report.measures import Value, benchmarks_in, metrics_in, value
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec

Verdict = Literal["better", "worse", "none"]


class Number(NamedTuple):
    """A measured number with its 95 % interval, where it has one."""

    number: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Contrast:
    """Run a against run b under one setting.

    Attributes:
      a, b: the two values.
      difference: a − b.
      interval: paired 95 % interval of the difference; None where the metrics hold no counts by image.
      verdict: of a. Without a paired interval, two intervals that overlap count as no difference.
      n, discordant: images of the paired interval, and those of them whose own value differs.
    """

    a: Number
    b: Number
    difference: float
    interval: tuple[float, float] | None
    verdict: Verdict
    n: int = 0
    discordant: int = 0


def measured(inputs: Inputs, run: str, setting: str, measure: Measure) -> Value:
    """One value of the result table."""
    return value(inputs.result(run, setting), measure, f"metrics/{run}/{setting}.json")


def contrast(
    inputs: Inputs, spec: ReportSpec, a: str, b: str, setting: str, measure: Measure
) -> Contrast | None:
    """Compares two runs.

    Args:
      inputs: the workdir's artifacts.
      spec: what the report shows.
      a: key of one run.
      b: key of the run that it is held against.
      setting: condition of both.
      measure: what is compared.

    Returns:
      None where either was not measured.

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
    return Contrast(first, second, difference, interval, verdict, paired["n"], discordant)


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


def _paired(
    inputs: Inputs, spec: ReportSpec, a: str, b: str, setting: str, measure: Measure
) -> dict[str, Any] | None:
    """The difference a − b over the images that both runs were measured on, as `compare` gives it."""
    key = (a, b, setting, measure.path[0])
    if key not in inputs.cache:
        inputs.cache[key] = _differences(inputs, spec, *key)
    return inputs.cache[key].get(measure.result_name)


def _differences(
    inputs: Inputs, spec: ReportSpec, a: str, b: str, setting: str, section: str
) -> dict[str, dict]:
    """Paired differences of a section's numbers by dotted name; empty where there are no counts by image."""
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
    """The result itself where it has counts by image, or those of its parts that have them."""
    if not isinstance(result, dict):
        return {}
    if "per_image" in result:
        return {key: part for key, part in result.items() if key != "robust"}
    parts = {key: with_counts(part) for key, part in result.items()}
    return {key: part for key, part in parts.items() if part}


def sampling(result: dict) -> dict[str, int]:
    """Draws and seed of the row's own intervals, so that paired ones go with them."""
    stated = result.get("bootstrap") or {}
    return {key: stated[key] for key in ("draws", "seed") if key in stated}


def _unpaired(a: Number, b: Number, measure: Measure) -> Verdict:
    if not (a.interval and b.interval):
        return "none"
    difference = (a.interval[0] - b.interval[1], a.interval[1] - b.interval[0])
    return _verdict(difference, measure) if difference[0] > 0 or difference[1] < 0 else "none"


def _verdict(interval: tuple[float, float], measure: Measure) -> Verdict:
    """Of a difference whose interval lies on one side of 0."""
    return "better" if (interval[1] < 0) == (measure.better == "lower") else "worse"
