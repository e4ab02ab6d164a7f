"""What both gradient functions share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sare_jax.training.rows import Rows
from sare_jax.training.static import Weights


def weighted(losses: Mapping[str, jax.Array], weights: Weights) -> jax.Array:
    """Σ weight · loss over the sets that have a weight, float32[]."""
    return sum(
        (jnp.asarray(weights[kind]) * loss for kind, loss in losses.items() if kind in weights), jnp.zeros(())
    )


def members(groups: Mapping[str, Rows], wanted: Sequence[Weights]) -> list[list[str]]:
    """For each sum, the names of the groups with units of a set that has a weight in it."""
    return [[name for name, rows in groups.items() if set(rows.units) & set(sums)] for sums in wanted]


def pull_each(function: Callable[[Any], tuple], at: Any) -> tuple[Sequence[Any], Any]:
    """The gradient of each of a function's scalar results, and its auxiliary result."""
    made: Any = jax.vjp(function, at, has_aux=True)
    results, pull, aux = made
    if len(results) == 1:
        return pull((jnp.ones(()),)), aux
    # Row i of the unit matrix is the cotangent that selects result i.
    stacked = jax.vmap(lambda row: pull(tuple(row))[0])(jnp.eye(len(results)))
    return [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(len(results))], aux
