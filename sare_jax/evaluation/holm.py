"""Correction of p-values where many differences are tested together."""

from collections.abc import Sequence


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected by Holm (1979), in their order.

    The smallest of n is multiplied by n, the next by n − 1, and so on; none is below one before it, nor above
    1. Rejecting where the corrected value is at most α errs anywhere with probability α at most, whatever the
    tests have to do with each other.
    """
    order = sorted(range(len(values)), key=lambda place: values[place])
    corrected, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, values[place] * (len(values) - rank)))
        corrected[place] = least
    return corrected
