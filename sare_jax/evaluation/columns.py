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
      better: which way is good; None where neither is.
      digits: decimals shown.
      scale: the stored number times this is what is shown.
      help: how to read it, for a reader who has not met it.
      place: columns stand by place, and those of one place in the order of their metrics.
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
      columns: the counts of an image.
      metrics: from the groups of the counts, none where they are not grouped, to the numbers by name, each a
        function of the counts' sums.
      joint: numbers of several results of this kind together, by name, from their counts side by side.
    """

    columns: tuple[str, ...]
    metrics: Callable[[Sequence[str]], Mapping[str, bootstrap.Metric]]
    joint: Mapping[str, bootstrap.Metric] = field(default_factory=dict)


def ungrouped(
    columns: tuple[str, ...],
    metrics: Mapping[str, bootstrap.Metric],
    joint: Mapping[str, bootstrap.Metric] | None = None,
) -> Counts:
    """Counts with one line an image, from which the same numbers are made whatever the images."""
    return Counts(columns, lambda groups: metrics, joint or {})
