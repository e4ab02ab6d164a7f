"""Rows picked out of arrays, with gradients that are products or gathers.

The gradient that differentiation finds for an index is a scatter: slow on a CPU, and on a GPU summed in an
order that changes from run to run.
"""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def pick(x: jax.Array, places: jax.Array) -> jax.Array:
    """float[B, T, D], int32[B, W] -> float[B, W, D], the tokens at those places."""
    return jnp.take_along_axis(x, places[..., None], axis=1)


def _pick_forward(x: jax.Array, places: jax.Array) -> tuple[jax.Array, tuple]:
    return pick(x, places), (places, jnp.zeros((x.shape[1], 0), x.dtype))


def _pick_backward(kept: tuple, cotangent: jax.Array) -> tuple[jax.Array, None]:
    places, like = kept
    chosen = (jnp.arange(like.shape[0])[:, None] == places[:, None, :]).astype(cotangent.dtype)
    # A place may be picked several times. Ones and zeros lose nothing in a product of full precision.
    moved = jnp.einsum("BTW,BWD->BTD", chosen, cotangent, precision="highest")
    return moved.astype(like.dtype), None


pick.defvjp(_pick_forward, _pick_backward)


@jax.custom_vjp
def deal(x: jax.Array, wanted: jax.Array) -> jax.Array:
    """Hands out the rows of an array in order.

    Args:
      x: float[B, P, D].
      wanted: bool[B, T], which tokens take one.

    Returns:
      float[B, T, D]; of no meaning where nothing is wanted, or after the P rows are used up.
    """
    order = jnp.clip(jnp.cumsum(wanted, axis=1) - 1, 0, x.shape[1] - 1)
    return jnp.take_along_axis(x, order[..., None], axis=1)


def _deal_forward(x: jax.Array, wanted: jax.Array) -> tuple[jax.Array, tuple]:
    return deal(x, wanted), (wanted, jnp.zeros((x.shape[1], 0), x.dtype))


def _deal_backward(kept: tuple, cotangent: jax.Array) -> tuple[jax.Array, None]:
    wanted, like = kept
    count = like.shape[0]
    short = max(count - wanted.shape[1], 0)
    wanted, cotangent = (
        jnp.pad(wanted, ((0, 0), (0, short))),
        jnp.pad(cotangent, ((0, 0), (0, short), (0, 0))),
    )
    takers = jnp.argsort(~wanted, axis=1, stable=True)[:, :count]
    taken = jnp.arange(count) < jnp.sum(wanted, axis=1, keepdims=True)
    moved = jnp.take_along_axis(cotangent, takers[..., None], axis=1)
    return jnp.where(taken[..., None], moved, 0), None


deal.defvjp(_deal_forward, _deal_backward)
