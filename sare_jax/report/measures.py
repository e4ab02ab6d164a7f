"""The numbers that a report shows: which those are, and how each is read from a metrics file."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import BENCHMARKS
from sare_jax.evaluation.benchmarks.benchmark import Benchmark
from sare_jax.evaluation.columns import NOT_MEASURED, Measure
from sare_jax.evaluation.metrics.metric import Metric, metrics_of
from sare_jax.extensions import resolve
from sare_jax.report.spec import ReportSpec

NOT_RUN = "not run"


@dataclass(frozen=True)
class Value:
    """A measured number with its 95 % interval, or the reason why there is none.

    Attributes:
      number: None where there is none.
      interval: (low, high), or None.
      reason: `not measured` or `not run` where `number` is None.
    """

    number: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = NOT_MEASURED


def metrics_in(spec: ReportSpec) -> tuple[Metric, ...]:
    """The metrics that a report shows."""
    return metrics_of(spec.metrics)


def benchmarks_in(spec: ReportSpec) -> tuple[Benchmark, ...]:
    """The benchmarks that a report shows."""
    return tuple(resolve(name, BENCHMARKS, "config.evaluate.benchmarks") for name in spec.benchmarks)


def in_place(measures: Iterable[Measure]) -> tuple[Measure, ...]:
    """Measures in the order of their columns."""
    return tuple(sorted(measures, key=lambda measure: measure.place))


def columns_in(spec: ReportSpec) -> tuple[Measure, ...]:
    """The columns of the first table, the paper's Table 1."""
    return in_place(measure for metric in metrics_in(spec) for measure in metric.columns)


def price_in(spec: ReportSpec) -> tuple[Measure, ...]:
    """What an erasure may cost."""
    return in_place(measure for metric in metrics_in(spec) for measure in metric.price)


def all_measures(spec: ReportSpec) -> dict[str, Measure]:
    """Every number of the metrics, by the name that `compare` gives it."""
    return {
        measure.result_name: measure
        for metric in metrics_in(spec)
        for measure in (*metric.columns, *metric.other, *metric.detail)
    }


def lookup(result: dict, path: tuple[str, ...]) -> object:
    """What stands under nested keys, or None."""
    node: object = result
    for key in path:
        if not isinstance(node, dict) or key not in node:
            return None
        node = node[key]
    return node


def value(result: dict | None, measure: Measure, where: str = "metrics") -> Value:
    """Reads one measure from one metrics file.

    Args:
      result: the file's contents, or None where the setting was not run.
      measure: what to read.
      where: the file's name, for messages.

    Raises:
      UserError: something other than a number, null or a reason in words stands there.
    """
    if result is None:
        return Value(reason=NOT_RUN)
    found = lookup(result, measure.path)
    if found is None or (isinstance(found, str) and found.startswith("not ")):
        return Value(reason=found or NOT_MEASURED)
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise UserError(f"{where}: {'.'.join(measure.path)} should be a number; run the evaluate stage again")
    if not math.isfinite(found):
        return Value()
    interval = lookup(result, measure.interval)
    return Value(found * measure.scale, _interval(interval, measure, where), "")


def _interval(found: object, measure: Measure, where: str) -> tuple[float, float] | None:
    if found is None:
        return None
    if not (isinstance(found, list) and len(found) == 2 and all(map(_is_number, found))):
        path = ".".join(measure.interval)
        raise UserError(f"{where}: {path} should be [low, high]; run the evaluate stage again")
    low, high = (bound * measure.scale for bound in found)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _is_number(found: object) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)
