"""The least range of an axis, by measure: a smaller one would draw noise as large as a finding."""

from typing import Literal

from matplotlib.axes import Axes

POINTS = 5.0
"""Percentage points, the unit of most measures."""
LEAST = {
    "mean_words": 4.0,
    "loss": 0.2,
    "neg": 0.2,
    "neg_perturbed": 0.2,
    "pos": 0.2,
    "sent": 0.2,
    "neg_grad_norm": 0.2,
    "cosine": 0.1,
}
"""Key of a measure or of a number in the training log → least range, in its own unit; else `POINTS`."""


def widen(axes: Axes, key: str, axis: Literal["x", "y"] = "y", most: float = float("inf")) -> None:
    """Widens an axis about its middle to the least range of a measure; call it when all is drawn.

    Args:
      axes: holds the drawing.
      key: the measure's.
      axis: the one that shows the measure.
      most: a bound that the axis does not pass, such as just above 100 %.
    """
    limits, set_limits = (axes.get_xlim, axes.set_xlim) if axis == "x" else (axes.get_ylim, axes.set_ylim)
    low, high = limits()
    lacking = LEAST.get(key, POINTS) - (high - low)
    if lacking > 0:
        low, high = low - lacking / 2, high + lacking / 2
    past = max(0.0, high - most)
    set_limits(low - (past if lacking > 0 else 0.0), high - past)
