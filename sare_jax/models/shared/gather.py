"""Rows picked out of arrays, with gradients that are products or gathers.

The gradient that jax derives for indexing is a scatter, which is slow on a CPU, and which a GPU sums in an
order that changes from run to run.
"""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def pick(x: jax.Array, positions: jax.Array) -> jax.Array:
    """The vectors of `x` at some positions of each row.

    Args:
      x: float[B, T, D], a vector for each token.
      positions: int32[B, W], indices of tokens, 0 to T − 1; one may occur several times.

    Returns:
      float[B, W, D].
    """
    return jnp.take_along_axis(x, positions[..., None], axis=1)


def _pick_forward(x: jax.Array, positions: jax.Array) -> tuple[jax.Array, tuple]:
    return pick(x, positions), (positions, jnp.zeros((x.shape[1], 0), x.dtype))


def _pick_backward(kept: tuple, cotangent: jax.Array) -> tuple[jax.Array, None]:
    positions, like = kept
    chosen = (jnp.arange(like.shape[0])[:, None] == positions[:, None, :]).astype(cotangent.dtype)
    # A position may be picked several times. Ones and zeros lose nothing in a product of full precision.
    moved = jnp.einsum("BTW,BWD->BTD", chosen, cotangent, precision="highest")
    return moved.astype(like.dtype), None


pick.defvjp(_pick_forward, _pick_backward)


@jax.custom_vjp
def fill_image_slots(image_embeds: jax.Array, slots: jax.Array) -> jax.Array:
    """Gives the image slots of each row its image embeddings, in order.

    Args:
      image_embeds: float[B, P, D]; embeddings beyond a row's number of slots, such as the padding of a
        smaller image, are not used and get gradient 0.
      slots: bool[B, T], which tokens are image slots.

    Returns:
      float[B, T, D]; the values mean nothing where there is no slot, or for slots beyond the first P.
    """
    order = jnp.clip(jnp.cumsum(slots, axis=1) - 1, 0, image_embeds.shape[1] - 1)
    return jnp.take_along_axis(image_embeds, order[..., None], axis=1)


def _fill_image_slots_forward(image_embeds: jax.Array, slots: jax.Array) -> tuple[jax.Array, tuple]:
    like = jnp.zeros((image_embeds.shape[1], 0), image_embeds.dtype)
    return fill_image_slots(image_embeds, slots), (slots, like)


def _fill_image_slots_backward(kept: tuple, cotangent: jax.Array) -> tuple[jax.Array, None]:
    slots, like = kept
    count = like.shape[0]
    short = max(count - slots.shape[1], 0)
    slots, cotangent = (
        jnp.pad(slots, ((0, 0), (0, short))),
        jnp.pad(cotangent, ((0, 0), (0, short), (0, 0))),
    )
    takers = jnp.argsort(~slots, axis=1, stable=True)[:, :count]
    taken = jnp.arange(count) < jnp.sum(slots, axis=1, keepdims=True)
    moved = jnp.take_along_axis(cotangent, takers[..., None], axis=1)
    return jnp.where(taken[..., None], moved, 0), None


fill_image_slots.defvjp(_fill_image_slots_forward, _fill_image_slots_backward)
