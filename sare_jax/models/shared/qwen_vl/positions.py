"""Positions of tokens: text counts on along a line, the tokens of an image lie in a plane (M-RoPE).

What an image token needs besides its embedding travels with it, in further columns behind the embedding: its
row and column in the image, each as two digits, which 16-bit numbers hold exactly.
"""

import jax
import jax.numpy as jnp

_BASE = 256


def digits(rows: jax.Array, columns: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Rows and columns int32[...] of image tokens, each below 65,536 -> float[..., 4]."""
    parts = [*jnp.divmod(rows, _BASE), *jnp.divmod(columns, _BASE)]
    return jnp.stack(parts, axis=-1).astype(dtype)


def from_digits(columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float[..., 4] of `digits` -> rows and columns, int32[...]; no gradient flows back."""
    whole = jax.lax.stop_gradient(columns).astype(jnp.int32)
    return whole[..., 0] * _BASE + whole[..., 1], whole[..., 2] * _BASE + whole[..., 3]


def token_positions(slots: jax.Array, rows: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Positions of every token of rows of text with images in it.

    A token of text is one further along all axes. An image starts where the text before it ends; along time
    it stays there, along height and width its tokens lie in a plane; the text behind it goes on beyond its
    longer side.

    Args:
      slots: bool[B, T], which tokens are image slots.
      rows: int32[B, T], row of an image token in its image; of other tokens it does not matter.
      columns: int32[B, T], its column.

    Returns:
      int32[3, B, T], positions along time, height and width, and int32[B, T], the position that a token of
      text has behind each token.
    """
    following = jnp.pad(slots[:, 1:], ((0, 0), (0, 1)))
    opens = slots & (rows == 0) & (columns == 0)
    opens_next = jnp.pad(opens[:, 1:], ((0, 0), (0, 1)))
    closes = slots & (~following | opens_next)
    # The last token of an image stands in its lower right corner.
    steps = jnp.where(slots, jnp.where(closes, jnp.maximum(rows, columns) + 1, 0), 1)
    behind = jnp.cumsum(steps, axis=1)
    start = behind - steps
    plane = (jnp.where(slots, part, 0) for part in (rows, columns))
    return jnp.stack([start, *(start + part for part in plane)]), behind


def rotary_of(
    positions: jax.Array, axes: tuple[int, ...], head_size: int, theta: float
) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine, float32[B, T, 1, H / 2], of positions int32[3, B, T].

    Args:
      positions: along time, height and width.
      axes: for each frequency the axis that turns it.
      head_size: H.
      theta: base of the frequencies.
    """
    frequencies = theta ** (-jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size)
    chosen = jnp.moveaxis(positions, 0, -1)[..., jnp.array(axes)]
    angles = chosen[:, :, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)
