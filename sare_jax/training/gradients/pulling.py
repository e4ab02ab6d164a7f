"""What both gradient functions share."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
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


def has_units(groups: Mapping[str, Rows], name: str, counts: Mapping[str, jax.Array]) -> jax.Array | None:
    """Whether the whole batch has units of a group's sets, bool[]; None, unasked, for a group by itself.

    Such a group has none to be kept apart from, and in a loop over micro-batches XLA sums the gradients of
    devices once behind the loop only where they come from no branch.
    """
    if len(groups) == 1:
        return None
    return sum((counts[kind] for kind in groups[name].units), jnp.zeros(())) > 0


def pull_each(function: Callable[[Any], tuple], at: Any) -> tuple[list[Any], Any]:
    """The gradient of each of a function's scalar results, and its auxiliary result."""
    made: Any = jax.vjp(function, at, has_aux=True)
    results, pull, aux = made
    if len(results) == 1:
        return list(pull((jnp.ones(()),))), aux
    # Row i of the unit matrix is the cotangent that selects result i.
    stacked = jax.vmap(lambda row: pull(tuple(row))[0])(jnp.eye(len(results)))
    return [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(len(results))], aux


def pull_where(
    present: jax.Array | None, function: Callable[[Any], tuple], at: Any, count: int, kinds: Collection[str]
) -> tuple[list[Any], dict[str, jax.Array]]:
    """As `pull_each` where `present`, bool[], is true; elsewhere zeros, and nothing is computed.

    A branch is a part of the program of its own. Left in one part, several groups of rows have the buffers of
    their activations filled with zeros together at the step's beginning, so all are held at once.

    Args:
      present: whether there is something to compute; None where there is.
      function: of `at`; gives a tuple of float32[], and float32[] by set.
      at: where the gradients are taken.
      count: length of that tuple.
      kinds: those sets.
    """
    if present is None:
        return pull_each(function, at)

    def zeros(at: Any) -> tuple[list[Any], dict[str, jax.Array]]:
        return [jax.tree.map(jnp.zeros_like, at) for _ in range(count)], dict.fromkeys(kinds, jnp.zeros(()))

    return jax.lax.cond(present, functools.partial(pull_each, function), zeros, at)
