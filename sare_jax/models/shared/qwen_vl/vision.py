"""What the Qwen-VLs' vision towers share: patches, positions in the grid, attention within an image."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sare_jax.models.shared.qwen_vl.images import GRID
from sare_jax.models.shared.qwen_vl.positions import digits
from sare_jax.models.shared.target import Target

_ROPE_THETA = 10_000.0
_SCORES = 1 << 26  # attention scores, float32, that a tower's layer may hold: 256 MiB


class Patches(NamedTuple):
    """Pictures as `QwenImageProcessor.load` gives them, taken apart.

    Attributes:
      pixels: float32[I, N, 3 · side²].
      height: int32[I, 1], rows of each picture's grid.
      width: int32[I, 1], columns.
      row: int32[I, N], where each patch lies in its grid.
      column: int32[I, N].
      real: bool[I, N], which patches are the picture's.
    """

    pixels: jax.Array
    height: jax.Array
    width: jax.Array
    row: jax.Array
    column: jax.Array
    real: jax.Array


def taken_apart(pictures: jax.Array, merge: int) -> Patches:
    """Patches float32[I, N, 3 · side² + 2], those of an image token side by side -> their parts."""
    pixels, grid = pictures[..., :-GRID], pictures[:, :1, -GRID:].astype(jnp.int32)
    height, width = grid[..., 0], grid[..., 1]
    number = jnp.arange(pictures.shape[1])[None]
    square, inside = jnp.divmod(number, merge * merge)
    # A black picture that fills a batch up has no width.
    square_row, square_column = jnp.divmod(square, jnp.maximum(width // merge, 1))
    row, column = square_row * merge + inside // merge, square_column * merge + inside % merge
    return Patches(pixels, height, width, row, column, number < height * width)


def in_parts(
    run: Callable[[jax.Array], jax.Array], pictures: jax.Array, num_heads: int, target: Target
) -> jax.Array:
    """`run(pictures)`, as many pictures at a time as their attention scores leave room for.

    Args:
      run: a tower, float32[i, N, C] -> [i, …].
      pictures: float32[I, N, C].
      num_heads: attention heads of the tower.
      target: what the program is lowered for. Over several devices pictures go together, each device's own.
    """
    count, size = pictures.shape[:2]
    most = max(1, _SCORES // (num_heads * size * size))
    part = max(part for part in range(1, count + 1) if count % part == 0 and part <= most)
    if target.devices > 1 or part == count:
        return run(pictures)
    made = jax.lax.map(run, pictures.reshape(-1, part, *pictures.shape[1:]))
    return made.reshape(count, *made.shape[2:])


def embed_patches(pixels: jax.Array, kernel: jax.Array) -> jax.Array:
    """Patches float32[I, N, C · P²] of equal frames, kernel float[T, C, P, P, D] -> float[I, N, D]."""
    frames, width = kernel.shape[0], kernel.shape[-1]
    return jnp.tile(pixels.astype(kernel.dtype), frames) @ kernel.reshape(-1, width)


def rotary_in_grid(patches: Patches, head_size: int) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine, float32[I, N, 1, H / 2]: half of the frequencies turn by row, half by column."""
    half = head_size // 2
    frequencies = _ROPE_THETA ** (-jnp.arange(0, half, 2, dtype=jnp.float32) / half)
    places = jnp.stack([patches.row, patches.column], axis=-1)[..., None].astype(jnp.float32)
    angles = (places * frequencies).reshape(*patches.row.shape, 1, -1)
    return jnp.cos(angles), jnp.sin(angles)


def attend(
    qkv: jax.Array, num_heads: int, rotary: tuple[jax.Array, jax.Array], visible: jax.Array
) -> jax.Array:
    """Attention between the patches of an image.

    Args:
      qkv: float[I, N, 3 · D], queries, keys and values.
      num_heads: attention heads.
      rotary: cosine and sine of the patches' places.
      visible: bool[I, N or 1, N], which keys each query sees.

    Returns:
      float[I, N, D].
    """
    images, count, _ = qkv.shape
    q, k, v = jnp.moveaxis(qkv.reshape(images, count, 3, num_heads, -1), 2, 0)
    q, k = _rotate(q, rotary), _rotate(k, rotary)
    mask = jnp.broadcast_to(visible[:, None], (images, 1, count, count))
    attended = jax.nn.dot_product_attention(q, k, v, mask=mask)
    return attended.reshape(images, count, -1)


def feature_digits(patches: Patches, merge: int, dtype: jnp.dtype) -> jax.Array:
    """The place of each image token in its image, float[I, N / merge², 4]; see `positions`."""
    rows, columns = (part[:, :: merge * merge] // merge for part in (patches.row, patches.column))
    return digits(rows, columns, dtype)


def _rotate(x: jax.Array, rotary: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates float[I, N, heads, H]; element i of a head is rotated with element i + H/2."""
    cosine, sine = rotary
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return rotated.astype(x.dtype)
