"""What an attack gives back to a run beyond what it teaches the base model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.columns import Counts
from sare_jax.evaluation.compare import paired, shipped_counts


def excess(
    run: tuple[dict, dict],
    base: tuple[dict, dict],
    *,
    known: Mapping[str, Counts] | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """What an attack gives back to a run beyond what it teaches the base model, by dotted name.

    An attack that tunes weights on hallucinations teaches them to any model. So a rise after it does not show
    that the run had kept the hallucinations. How much the attack teaches is seen in the base model, which has
    unlearned nothing.

    Args:
      run: the run's rows before and after the attack, as `compare` takes them.
      base: the base model's rows before and after the same attack.
      known: `metric` entry of a result → what its numbers are made from, as in `compare`.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      For each number that all four share: `given_back` (run, after − before), `by_base` (base, after −
      before), `difference` (the excess: the first minus the second), `interval` and `p` of the excess, for
      which all four see the same resampled images, `n` images and `discordant`, those of them whose own
      change differs.

    Raises:
      UserError: the rows have no number in common, or measure differently; see `compare`.
    """
    known = shipped_counts() if known is None else known
    excesses: dict[str, dict[str, Any]] = {}
    for part in paired((*run, *base), known):
        before, after, base_before, base_after = part.tables
        for label, metric in part.metrics.items():
            change = metric(after) - metric(before)
            base_change = metric(base_after) - metric(base_before)
            values = [bootstrap.value(table, metric) for table in part.tables]
            excesses[f"{part.name}.{label}"] = {
                "given_back": values[1] - values[0],
                "by_base": values[3] - values[2],
                **bootstrap.contrast(part.tables, (-1, 1, 1, -1), metric, draws=draws, seed=seed),
                "n": len(part.images),
                "discordant": int(np.count_nonzero(~np.isclose(change, base_change))),
            }
    return excesses
