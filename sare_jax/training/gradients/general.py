"""Gradients with respect to any trainable parameters: the whole model is differentiated.

Nothing is taken for constant: the tokens that all rows begin with are in every row, and in its gradient.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from sare_jax.data.batches import SETS
from sare_jax.training.gradients.pulling import has_units, members, pull_where, weighted
from sare_jax.training.losses import losses_of_rows
from sare_jax.training.rows import Rows
from sare_jax.training.state import Params
from sare_jax.training.static import Images, Static, Weights


def gradients(
    static: Static,
    params: Params,
    frozen: Params,
    groups: Mapping[str, Rows],
    features: Mapping[str, Images],
    counts: Mapping[str, jax.Array],
    wanted: Sequence[Weights],
) -> tuple[list[Params], dict[str, jax.Array]]:
    """Gradients of several weighted sums of L_neg, L_pos and L_sent; see the package for the arguments.

    Each group of rows has one forward pass, and one backward pass for each sum that it contributes to.
    """
    parts = members(groups, wanted)
    grads = [jax.tree.map(jnp.zeros_like, params) for _ in wanted]
    values = dict.fromkeys(SETS, jnp.zeros(()))
    for name, rows in groups.items():
        numbers = [number for number, names in enumerate(parts) if name in names]
        if not numbers:
            continue

        def sums_of(
            params: Params, name: str = name, rows: Rows = rows, numbers: Sequence[int] = numbers
        ) -> tuple:
            model = static.merge(params, frozen)
            losses = losses_of_rows(static, model, rows, static.project(model, features[name]), counts)
            return tuple(weighted(losses, wanted[number]) for number in numbers), losses

        present = has_units(groups, name, counts)
        pulled, losses = pull_where(present, sums_of, params, len(numbers), rows.units)
        for number, grad in zip(numbers, pulled, strict=True):
            grads[number] = jax.tree.map(jnp.add, grads[number], grad)
        values |= {kind: values[kind] + loss for kind, loss in losses.items()}
    return grads, values
