"""What a metric or a benchmark says of its numbers: how they are shown, and what they are made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sare_jax.evaluation import bootstrap

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Measure:
    """A number of a row, and the column that shows it.

    Attributes:
      key: name of the column in `report.json`.
      label: how it is written in plain text; `_S` and `_I` become subscripts on the page.
      path: keys that lead to the number in `metrics/<run>/<setting>.json`; its interval stands beside it
        under `intervals`.
      better: whether a lower or a higher number is good; None where neither is.
      digits: decimals shown.
      scale: factor from the stored number to the shown one.
      help: a sentence for readers who do not know the number.
      place: columns are sorted by this; those of equal place stand in the order of their metrics.
    """

    key: str
    label: str
    path: tuple[str, ...]
    better: Literal["lower", "higher"] | None = None
    digits: int = 1
    scale: float = 1.0
    help: str = ""
    place: int = 0

    @property
    def interval(self) -> tuple[str, ...]:
        """Keys that lead to the interval [low, high], where there is one."""
        return (*self.path[:-1], "intervals", self.path[-1])

    @property
    def result_name(self) -> str:
        """The dotted name that `compare` gives the number."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Counts:
    """What the numbers of a result with `per_image` counts are made from.

    Attributes:
      columns: names of the K counts that `per_image` holds for each image.
      metrics: gives the numbers, name → function of the counts' sums, from the names of the groups that the
        counts are split by (none where they are not).
      joint: numbers of several results of this kind taken together, name → function of the sums of their
        counts side by side (`grouped.side_by_side`).
    """

    columns: tuple[str, ...]
    metrics: Callable[[Sequence[str]], Mapping[str, bootstrap.Metric]]
    joint: Mapping[str, bootstrap.Metric] = field(default_factory=dict)


def ungrouped(
    columns: tuple[str, ...],
    metrics: Mapping[str, bootstrap.Metric],
    joint: Mapping[str, bootstrap.Metric] | None = None,
) -> Counts:
    """Counts with one line an image, that are not split by groups."""
    return Counts(columns, lambda groups: metrics, joint or {})
