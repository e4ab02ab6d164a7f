"""How far weights have moved."""

import jax
import jax.numpy as jnp

from sare_jax.models.shared import lora
from sare_jax.training.state import Params


def displacement(params: Params, origin: Params) -> dict[str, float]:
    """The difference of two sets of trainable weights.

    Args:
      params: the weights; adapters beside them are left out (an attack's record says how large they are).
      origin: where they came from.

    Returns:
      `l2`, the Euclidean norm of the difference over all entries; `largest`, that of a single entry; `share`,
      the norm in relation to that of the origin.
    """
    params, _ = lora.split(params)
    moved = jax.tree.map(lambda a, b: a.astype(jnp.float32) - b.astype(jnp.float32), params, origin)
    norm, whole = _norm(moved), _norm(origin)
    largest = max((float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(moved)), default=0.0)
    return {"l2": norm, "largest": largest, "share": norm / whole if whole else 0.0}


def _norm(tree: Params) -> float:
    squares = (jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree))
    return float(jnp.sqrt(sum(squares, jnp.zeros(()))))
