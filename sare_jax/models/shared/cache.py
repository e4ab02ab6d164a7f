"""Keys and values of the tokens that a decoder has read, and the number formats in which they are kept.

The small formats keep a number as its quotient by a scale, one for each token and head, the largest of
whose numbers becomes the format's largest. Products read the small numbers; a scale multiplies a key's scores
or a value's weight, so that no array of wide numbers is made of a cache.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sare_jax.settings.decoding import CacheFormat

_SMALL = {"int8": jnp.int8, "fp8": jnp.float8_e4m3fn}


class Kept(NamedTuple):
    """Vectors of tokens, such as keys.

    Attributes:
      numbers: [..., S, H] in the weights' dtype, or in a small one.
      scales: float32[..., S], what a vector is multiplied by; None where the numbers are not small.
    """

    numbers: jax.Array
    scales: jax.Array | None

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: jnp.dtype, cache: CacheFormat) -> "Kept":
        """Zeros for vectors of this shape, [..., S, H], and of this dtype where the format says none."""
        scales = jnp.zeros(shape[:-1], jnp.float32) if cache in _SMALL else None
        return cls(jnp.zeros(shape, _SMALL.get(cache, dtype)), scales)

    def like(self, vectors: jax.Array) -> "Kept":
        """Other vectors, float[..., S, H], in the format of these."""
        if self.scales is None:
            return Kept(vectors, None)
        dtype = self.numbers.dtype
        whole = jnp.issubdtype(dtype, jnp.integer)
        largest = float(jnp.iinfo(dtype).max if whole else jnp.finfo(dtype).max)
        wide = vectors.astype(jnp.float32)
        peak = jnp.max(jnp.abs(wide), axis=-1)
        scales = jnp.where(peak > 0, peak / largest, 1.0)
        numbers = wide / scales[..., None]
        return Kept((jnp.round(numbers) if whole else numbers).astype(dtype), scales)

    def with_tokens(self, added: jax.Array, layer: jax.Array, slot: jax.Array) -> "Kept":
        """These vectors of several layers, with one layer's for one new token a beam, written in place.

        Args:
          added: float[B, R, K, H]; the vectors here are [l, B, K, S, H], of l layers and S slots.
          layer: int32[], which of the l layers they belong to.
          slot: int32[], the first of the R slots that they fill.
        """

        def write(stacked: jax.Array, added: jax.Array) -> jax.Array:
            start: list[Any] = [layer, 0, 0, slot, *[0] * (stacked.ndim - 4)]
            return jax.lax.dynamic_update_slice(stacked, added[None], start)

        return jax.tree.map(write, self, self.like(added.swapaxes(1, 2)))

    def scaled(self, products: jax.Array) -> jax.Array:
        """float[B, K, …, S], products with keys or weights of values, times the scales float32[B, K, S]."""
        if self.scales is None:
            return products
        between = products.ndim - self.scales.ndim
        return products * jnp.expand_dims(self.scales, tuple(range(2, 2 + between)))


KeysValues = tuple[Kept, Kept]


class PartCache(NamedTuple):
    """Keys and values of one part of the layers: the prompts', and those of the further tokens."""

    prompt: KeysValues
    new: KeysValues


class Cache(NamedTuple):
    """Keys and values of the tokens read so far, of B prompts and R continuations ("beams") of each.

    The prompt's are kept once for all its beams. Further tokens of all beams of a row lie side by side, and
    `visible` says which of them are a beam's own past. So beams may be reordered, copied and dropped without
    moving a key: only `visible` is permuted. Slots lie inside heads, so that a step's products run over
    contiguous memory.

    Attributes:
      prompt_keys: for each part of the layers (see `Llama.parts`), float[l, B, K, T, H], rotated.
      prompt_values: the prompts' values, in the shapes of `prompt_keys`.
      keys: for each part float[l, B, K, S, H] of the further tokens.
      values: the further tokens' values, in the shapes of `keys`.
      visible: bool[B, R, T + S], the slots that a beam's query may see, first the prompt's.
      slot: int32[], the first of the S slots that is free.
      step: int32[], tokens that `decode` has read of each beam.
    """

    prompt_keys: tuple[Kept, ...]
    prompt_values: tuple[Kept, ...]
    keys: tuple[Kept, ...]
    values: tuple[Kept, ...]
    visible: jax.Array
    slot: jax.Array
    step: jax.Array

    @property
    def by_part(self) -> list[PartCache]:
        """The same by parts of the layers, in order."""
        prompts = zip(self.prompt_keys, self.prompt_values, strict=True)
        new = zip(self.keys, self.values, strict=True)
        return [PartCache(*both) for both in zip(prompts, new, strict=True)]

    def follow(self, parents: jax.Array) -> "Cache":
        """The cache in which beam r of a row goes on from what was beam `parents[row, r]`, int32[B, R]."""
        return self._replace(visible=jnp.take_along_axis(self.visible, parents[..., None], axis=1))


def attended(q: jax.Array, keys: Sequence[Kept], values: Sequence[Kept], visible: jax.Array) -> jax.Array:
    """softmax(q kᵀ / √H) v over tokens that are kept in several pieces; scores and softmax in float32.

    Args:
      q: float[B, R, N, H], queries of R tokens of each row, N a multiple of K.
      keys: pieces float[B, K, S, H], their S adding up to that of `visible`.
      values: pieces in the shapes of `keys`.
      visible: bool[B, R, S], which tokens each query may see.

    Returns:
      float[B, R, N, H] in the dtype of `q`.
    """
    queries = q.reshape(*q.shape[:2], keys[0].numbers.shape[1], -1, q.shape[-1]) * q.shape[-1] ** -0.5
    scores = [kept.scaled(_product("BRKGH,BKSH->BKRGS", queries, kept.numbers)) for kept in keys]
    masked = jnp.where(
        visible[:, None, :, None], jnp.concatenate(scores, axis=-1), jnp.finfo(jnp.float32).min
    )
    borders = [sum(part.shape[-1] for part in scores[:end]) for end in range(1, len(scores))]
    weights = jnp.split(jax.nn.softmax(masked, axis=-1), borders, axis=-1)
    parts = [
        _product("BKRGS,BKSH->BRKGH", kept.scaled(weight).astype(q.dtype), kept.numbers)
        for weight, kept in zip(weights, values, strict=True)
    ]
    return sum(parts[1:], parts[0]).astype(q.dtype).reshape(q.shape)


def _product(letters: str, x: jax.Array, small: jax.Array) -> jax.Array:
    # Every number of the small formats is one of bfloat16 too.
    return jnp.einsum(letters, x, small.astype(x.dtype), preferred_element_type=jnp.float32)
