"""A step's batch, cut into micro-batches, and the gradients of its losses at given parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sare_jax.data.batches import SETS
from sare_jax.training.rows import Batch, Rows, as_rows, count_units
from sare_jax.training.state import Params
from sare_jax.training.static import Images, Static, Weights

Losses = dict[str, jax.Array]
Features = dict[str, Images]

# Groups of a batch that pass 1 does not run: the negatives alone, for pass 2, and other negatives, for ε*.
AGAIN, OTHERS = "second", "other"


class Work:
    """The rows of a batch in micro-batches, and the gradients and losses of these rows."""

    def __init__(self, static: Static, frozen: Params, batch: dict[str, Batch], key: jax.Array | None = None):
        """Draws nothing yet.

        Args:
          static: as in the step.
          frozen: weights that do not change.
          batch: as in the step.
          key: of what is drawn in this step, from `static.key_of`.
        """
        self._static, self._frozen = static, frozen
        # A group of rows with one unit each has the name of their set, but for the other negatives.
        rows = {name: as_rows("neg" if name == OTHERS else name, part) for name, part in batch.items()}
        features = {
            name: Images(part["features"], _row_keys(key, number, len(part["features"])))
            for number, (name, part) in enumerate(sorted(batch.items()))
            if "features" in part
        }
        main = {name: group for name, group in rows.items() if name not in (AGAIN, OTHERS)}
        self._counts = count_units(main)
        self._all = self._split(main, {name: features[name] for name in main})
        self._negatives = self._only_negatives(rows.get(AGAIN, rows["neg"]), features["neg"])
        self.has_others = OTHERS in rows
        if self.has_others:
            self._other_counts = count_units({OTHERS: rows[OTHERS]})
            self._others = self._only_negatives(rows[OTHERS], features[OTHERS])

    @property
    def negatives(self) -> jax.Array:
        """Negatives in the batch, float32[]."""
        return self._counts["neg"]

    def at(self, params: Params, wanted: list[Weights]) -> tuple[list[Params], Losses]:
        """Over all rows: the gradient of each weighted sum in `wanted`, and L_k by set."""
        return self._sum(self._all, self._counts, params, wanted)

    def again(self, params: Params) -> tuple[Params, jax.Array]:
        """∇L_neg and L_neg, over the negatives alone."""
        (grads,), losses = self._sum(self._negatives, self._counts, params, [{"neg": 1.0}])
        return grads, losses["neg"]

    def other_negatives(self, params: Params) -> Params:
        """∇L_neg over the other negatives, where the batch has such."""
        (grads,), _ = self._sum(self._others, self._other_counts, params, [{"neg": 1.0}])
        return grads

    def _only_negatives(self, rows: Rows, features: Images) -> tuple[dict[str, Rows], Features]:
        alone = rows._replace(units={"neg": rows.units["neg"]})
        return self._split({"neg": alone}, {"neg": features})

    def _split(self, rows: dict[str, Rows], features: Features) -> tuple[dict[str, Rows], Features]:
        """[B, …] → [M, B/M, …], part m taking every M-th row, so that no row has to change its device."""
        parts = self._static.micro_batches
        return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), (rows, features))

    def _sum(
        self,
        parts: tuple[dict[str, Rows], Features],
        counts: dict[str, jax.Array],
        params: Params,
        wanted: list[Weights],
    ) -> tuple[list[Params], Losses]:
        static = self._static

        def evaluate(part: tuple[dict[str, Rows], Features]) -> tuple[list[Params], Losses]:
            return static.gradients(static, params, self._frozen, *part, counts, wanted)

        no_grads = jax.tree.map(jnp.zeros_like, params)
        zero = [no_grads] * len(wanted), dict.fromkeys(SETS, jnp.zeros(()))
        return _sum_over_parts(evaluate, parts, zero)


def _row_keys(key: jax.Array | None, group: int, rows: int) -> jax.Array | None:
    """A key for each row of a group, whatever the devices and micro-batches."""
    if key is None:
        return None
    own = jax.random.fold_in(key, group)
    return jax.vmap(lambda row: jax.random.fold_in(own, row))(jnp.arange(rows))


def _sum_over_parts(evaluate: Callable[[Any], Any], parts: Any, zero: Any) -> Any:
    """Σ evaluate(part) over the leading axis of `parts`, holding one part's activations at a time."""

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, evaluate(part)), None

    return jax.lax.scan(add, zero, parts)[0]
