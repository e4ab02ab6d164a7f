"""Piecewise linear curves: their value at an abscissa, and the area between two of them."""

import numpy as np


def curve(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in the order of their abscissa; points of equal abscissa become their mean.

    Args:
      x: float[W], abscissae.
      y: float[W], ordinates; points at which x or y is not finite are left out.

    Returns:
      Rising abscissae and their ordinates, both float[V], V ≤ W.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    at, place, counts = np.unique(x[finite], return_inverse=True, return_counts=True)
    return at, np.bincount(place, weights=y[finite], minlength=len(at)) / np.maximum(counts, 1)


def value_at(x: np.ndarray, y: np.ndarray, at: float) -> float:
    """The curve's value at an abscissa; NaN beyond its points, since nothing is extrapolated."""
    xs, ys = curve(x, y)
    if not len(xs):
        return float("nan")
    return float(np.interp(at, xs, ys, left=np.nan, right=np.nan))


def common_range(first: np.ndarray, second: np.ndarray) -> tuple[float, float] | None:
    """The abscissae that both curves cover, from their points' abscissae; None where they cover none."""
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    if not len(first) or not len(second):
        return None
    low, high = max(first.min(), second.min()), min(first.max(), second.max())
    return (float(low), float(high)) if low < high else None


def area_between(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """The integral of the second curve minus the first over the abscissae that both cover; exact.

    Args:
      first: abscissae and ordinates, float[W] each.
      second: abscissae and ordinates, float[V] each; V may differ from W.

    Returns:
      Signed: where the second lies below, it counts negative. Not a number where the curves share no range.
    """
    shared = common_range(first[0], second[0])
    if shared is None:
        return float("nan")
    one, other = curve(*first), curve(*second)
    knots = np.unique(np.clip(np.concatenate([one[0], other[0]]), *shared))
    return float(np.trapezoid(np.interp(knots, *other) - np.interp(knots, *one), knots))
