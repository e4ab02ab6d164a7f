"""Which numbers a report shows, and how each is read from a metrics file."""

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
      number: in the measure's unit (percent for most); None if it was not measured.
      interval: (low, high) in the same unit, or None.
      reason: why `number` is None: `not run`, `not measured`, or other words from the metrics file.
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
    """Measures sorted by their `place`, the order of columns."""
    return tuple(sorted(measures, key=lambda measure: measure.place))


def columns_in(spec: ReportSpec) -> tuple[Measure, ...]:
    """The columns of the first table, the paper's Table 1."""
    return in_place(measure for metric in metrics_in(spec) for measure in metric.columns)


def price_in(spec: ReportSpec) -> tuple[Measure, ...]:
    """Measures of what erasing may cost, such as recall."""
    return in_place(measure for metric in metrics_in(spec) for measure in metric.price)


def all_measures(spec: ReportSpec) -> dict[str, Measure]:
    """Name in `compare`'s results → measure, for each measure of the report's metrics."""
    return {
        measure.result_name: measure
        for metric in metrics_in(spec)
        for measure in (*metric.columns, *metric.other, *metric.detail)
    }


def lookup(result: dict, path: tuple[str, ...]) -> object:
    """The value under nested keys, or None if a key is missing."""
    node: object = result
    for key in path:
        if not isinstance(node, dict) or key not in node:
            return None
        node = node[key]
    return node


def value(result: dict | None, measure: Measure, where: str = "metrics") -> Value:
    """Reads one measure from one metrics file.

    Args:
      result: the file's contents, or None if the setting was not run.
      measure: gives the keys to read, and the factor to its unit.
      where: the file's name, for messages.

    Raises:
      UserError: the value is neither a number nor null nor a text that starts with `not `.
    """
    if result is None:
        return Value(reason=NOT_RUN)
    content = lookup(result, measure.path)
    if content is None or (isinstance(content, str) and content.startswith("not ")):
        return Value(reason=content or NOT_MEASURED)
    if not isinstance(content, int | float) or isinstance(content, bool):
        raise UserError(f"{where}: {'.'.join(measure.path)} should be a number; run the evaluate stage again")
    if not math.isfinite(content):
        return Value()
    interval = lookup(result, measure.interval)
    return Value(content * measure.scale, _interval(interval, measure, where), "")


def _interval(content: object, measure: Measure, where: str) -> tuple[float, float] | None:
    if content is None:
        return None
    if not (isinstance(content, list) and len(content) == 2 and all(map(_is_number, content))):
        path = ".".join(measure.interval)
        raise UserError(f"{where}: {path} should be [low, high]; run the evaluate stage again")
    low, high = (bound * measure.scale for bound in content)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _is_number(content: object) -> bool:
    return isinstance(content, int | float) and not isinstance(content, bool)
