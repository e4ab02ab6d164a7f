"""Exact 95 % intervals of shares: Clopper and Pearson 1934, and for clustered counts Korn and Graubard 1998.

A bootstrap of a share near 0 or 100 % is too narrow: of 0 in 200 it says that the share is 0, where up to
1.8 % would be no surprise. Where an image gives several answers, as POPE's questions do, these are not
independent; so the exact interval is taken at the number of independent answers that would vary as much.
"""

import math

import numpy as np

EDGE = 0.025
_STEPS = 60  # of the bisection: to 1e-18


def interval(parts: np.ndarray, wholes: np.ndarray) -> tuple[float, float]:
    """Interval of sum(parts) / sum(wholes).

    Args:
      parts: float[n], the counted answers of each image.
      wholes: float[n], all answers of each image.

    Returns:
      (low, high), between 0 and 1; (0, 0) where there are no answers.
    """
    part, whole = float(parts.sum()), float(wholes.sum())
    if not whole:
        return 0.0, 0.0
    share = part / whole
    spread = float(((parts - share * wholes) ** 2).sum())
    if spread > 0:
        independent = min(whole, whole**2 * share * (1 - share) / spread)
    elif share in (0, 1):
        # All alike: nothing tells how much an image's answers have in common, so the most is taken.
        independent = float(np.count_nonzero(wholes))
    else:
        independent = whole
    return exact(share * independent, independent)


def exact(successes: float, trials: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of `successes` in `trials`, which need not be whole numbers."""
    failures = trials - successes
    low = _quantile(EDGE, successes, failures + 1) if successes > 0 else 0.0
    high = _quantile(1 - EDGE, successes + 1, failures) if failures > 0 else 1.0
    return low, high


def _quantile(level: float, a: float, b: float) -> float:
    """The point at which the distribution function of Beta(a, b) reaches `level`."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges quickly
        return 1 - beta_cdf(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    above, below = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    value = below
    for step in range(1, 10_000):
        before = value
        for term in (
            step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step)),
            -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1)),
        ):
            below = 1 / _off_zero(1 + term * below)
            above = _off_zero(1 + term / above)
            value *= above * below
        if abs(value - before) < 1e-14 * abs(value):
            break
    return math.exp(front) * value / a


def _off_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
