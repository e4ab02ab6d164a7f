"""95 % intervals, exact for shares and by bootstrap for the rest, and paired differences of two runs.

A metric is a function of sums over images: CHAIR_I is hallucinated mentions over all mentions, F1 comes from
three counts, corpus BLEU from its n-gram counts. So each image contributes one row of counts, a resample of
the images is a row of multiplicities, and all resamples of a corpus are one matrix product.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sare_jax.evaluation import shares

DRAWS = 1000
LEVEL = 95.0
_KEPT = 1 << 23  # multiplicities that are kept for the next metric on as many images: 64 MB
_AT_ONCE = 1 << 20  # that are drawn together

Metric = Callable[[np.ndarray], np.ndarray]
"""From sums over images, float[..., K], to the value, float[...]."""


def ratio(top: int, bottom: int, scale: float = 100.0) -> Metric:
    """The metric `scale` · column `top` / column `bottom`; 0 where the bottom is 0."""

    def value(sums: np.ndarray) -> np.ndarray:
        return scale * divide(sums[..., top], sums[..., bottom])

    return value


@dataclass(frozen=True)
class Share:
    """A share of captions or answers, whose interval is exact (see `shares`).

    Attributes:
      tally: from sums over images, float[..., K], to what is counted and what it is a share of, float[...].
      scale: 100 for a percentage.
    """

    tally: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    scale: float = 100.0

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        """The share; 0 of nothing is 0."""
        return self.scale * divide(*self.tally(sums))

    def interval(self, counts: np.ndarray) -> list[float]:
        """[low, high] from the counts of each image, float[n, K]."""
        return [self.scale * bound for bound in shares.interval(*self.tally(counts))]


def share(parts: int | Sequence[int], whole: int, scale: float = 100.0) -> Share:
    """The share of the sum of the columns `parts` in the column `whole`, times `scale`."""
    chosen = [parts] if isinstance(parts, int) else list(parts)
    return Share(lambda sums: (sums[..., chosen].sum(axis=-1), sums[..., whole]), scale)


def divide(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Divides; 0 where the bottom is 0."""
    top, bottom = np.asarray(top, float), np.asarray(bottom, float)
    return np.divide(top, bottom, out=np.zeros(np.broadcast(top, bottom).shape), where=bottom != 0)


def value(counts: np.ndarray, metric: Metric) -> float:
    """The metric of all images together, from the counts of each image, float[n, K]."""
    return float(metric(np.asarray(counts, float).sum(axis=0)))


def interval(counts: np.ndarray, metric: Metric, *, draws: int = DRAWS, seed: int = 0) -> list[float]:
    """Interval of a metric over images: exact for a `Share`, else by percentiles of the bootstrap.

    Args:
      counts: float[n, K], one row an image.
      metric: from the sums over images, float[..., K], to the number, float[...].
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      [low, high].
    """
    return intervals(counts, {"": metric}, draws=draws, seed=seed)[""]


def intervals(
    counts: np.ndarray, metrics: Mapping[str, Metric], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, list[float]]:
    """`interval` of several metrics of the same counts, by name."""
    counts = np.asarray(counts, float)
    sums = _resampled(counts, draws, seed)
    return {
        name: metric.interval(counts) if isinstance(metric, Share) else _percentiles(metric(sums))
        for name, metric in metrics.items()
    }


def difference(
    before: np.ndarray, after: np.ndarray, metric: Metric, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float | list[float]]:
    """Paired bootstrap of metric(after) - metric(before): both runs see the same resampled images.

    Args:
      before: float[n, K], one row an image.
      after: float[n, K], rows of the same images in the same order.
      metric: from the sums over images, float[..., K], to the number, float[...].
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      `difference`, `interval` and `p` as `contrast` gives them.
    """
    return contrast((before, after), (-1.0, 1.0), metric, draws=draws, seed=seed)


def contrast(
    tables: Sequence[np.ndarray],
    weights: Sequence[float],
    metric: Metric,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, float | list[float]]:
    """Paired bootstrap of a weighted sum of one metric of several runs, which all see the same resamples.

    Args:
      tables: float[n, K] each, one row an image, the same images in the same order.
      weights: one factor a table; (-1, 1) gives the difference of two.
      metric: from the sums over images, float[..., K], to the number, float[...].
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      `difference`, the weighted sum; `interval` [low, high]; `p`, the two-sided bootstrap p-value: twice the
      share of resamples on the rarer side of 0, never below 1 / draws.
    """
    return across([tables], weights, metric, draws=draws, seed=seed)


def across(
    repeats: Sequence[Sequence[np.ndarray]],
    weights: Sequence[float],
    metric: Metric,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, float | list[float]]:
    """`contrast` of runs that were trained with several seeds, resampling seeds as well as images.

    Args:
      repeats: for each seed the tables of `contrast`. A resample draws as many seeds as there are, with
        replacement, and takes the mean over them; the tables of a seed stay together.
      weights: one factor a table.
      metric: from the sums over images, float[..., K], to the number, float[...].
      draws: how many times seeds and images are resampled.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      As `contrast`; `difference` is the mean over seeds.
    """
    counts = [[np.asarray(table, float) for table in tables] for tables in repeats]
    if shapes := {table.shape for tables in counts for table in tables} - {counts[0][0].shape}:
        raise ValueError(f"paired counts differ in shape: {counts[0][0].shape} and {shapes.pop()}")
    taken = np.ones((draws, 1))
    if len(counts) > 1:
        rng = np.random.default_rng([seed, 1])  # not the draws of the images
        taken = rng.multinomial(len(counts), [1 / len(counts)] * len(counts), size=draws) / len(counts)
    sums = np.zeros(draws)
    difference = 0.0
    for share_of_seed, tables in zip(taken.T, counts, strict=True):
        for weight, table in zip(weights, tables, strict=True):
            sums += share_of_seed * weight * metric(_resampled(table, draws, seed))
            difference += weight * value(table, metric) / len(counts)
    tail = min((sums <= 0).mean(), (sums >= 0).mean())
    return {
        "difference": difference,
        "interval": _percentiles(sums),
        "p": float(min(1.0, max(2 * tail, 1 / draws))),
    }


def per_image(image_ids: Sequence[int | str], columns: Sequence[str], counts: np.ndarray) -> dict[str, list]:
    """Counts as JSON-able columns, `image_id` first, for later intervals and comparisons of runs."""
    return {
        "image_id": list(image_ids),
        **{name: _plain(column) for name, column in zip(columns, np.asarray(counts).T, strict=True)},
    }


def _plain(column: np.ndarray) -> list:
    """A column as a list, of `int` where all its numbers are whole."""
    return (column.astype(int) if (column == column.round()).all() else column).tolist()


def _resampled(counts: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Sums of the counts over each resample of their images: float[draws, K]."""
    if draws * len(counts) <= _KEPT:
        return resamples(len(counts), draws, seed) @ counts
    return np.concatenate([weights @ counts for weights in _drawn(len(counts), draws, seed)])


@lru_cache(maxsize=8)
def resamples(count: int, draws: int, seed: int) -> np.ndarray:
    """How often each image stands in each resample: float[draws, n]."""
    weights = np.concatenate(list(_drawn(count, draws, seed)))
    weights.flags.writeable = False
    return weights


def _drawn(count: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """The rows of `resamples`, a few at a time: of 100,000 images all of them would be 800 MB."""
    rng = np.random.default_rng(seed)
    while draws > 0:
        rows = min(draws, max(1, _AT_ONCE // max(count, 1)))
        drawn = rng.integers(count, size=(rows, count))
        drawn += count * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * count)
        yield weights.reshape(rows, count).astype(float)
        draws -= rows


def _percentiles(drawn: np.ndarray) -> list[float]:
    edge = (100.0 - LEVEL) / 2
    return [float(bound) for bound in np.percentile(drawn, [edge, 100.0 - edge])]
