"""How a Qwen-VL reads text with images in it: as `shared.reading`, with positions in a plane and DeepStack.

An image embedding is [D | n · D | digits]: what stands in the slot, what the token gets behind each of the
decoder's first n layers (DeepStack; n may be 0), and its place in the image (`positions.digits`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from sare_jax.models.shared import reading
from sare_jax.models.shared.beside import Beside
from sare_jax.models.shared.cache import Cache
from sare_jax.models.shared.gather import fill_image_slots
from sare_jax.models.shared.layers import Embedding, Linear
from sare_jax.models.shared.llama import DecoderLayer, Llama
from sare_jax.models.shared.qwen_vl.config import DIGITS, QwenConfig
from sare_jax.models.shared.qwen_vl.positions import from_digits, rotary_of, token_positions
from sare_jax.settings.decoding import CacheFormat


class Reader(Protocol):
    """A module with a decoder, its embedding table and, unless that is tied, its head."""

    embed: Embedding
    language_model: Llama
    head: Linear

    @property
    def config(self) -> QwenConfig:
        """The family's config."""
        ...

    def project(self, features: jax.Array) -> jax.Array:
        """Image features -> image embeddings, with the columns that the module describes."""
        ...


class PlacedCache(NamedTuple):
    """A decoder's cache, and how far positions differ from places.

    Attributes:
      inner: keys and values.
      shift: int32[B], the position of generated tokens less their place in the row.
    """

    inner: Cache
    shift: jax.Array

    @property
    def step(self) -> jax.Array:
        """int32[], tokens that `decode` has read of each beam."""
        return self.inner.step

    def follow(self, parents: jax.Array) -> "PlacedCache":
        """As `Cache.follow`."""
        return self._replace(inner=self.inner.follow(parents))


class _Read(NamedTuple):
    """Rows as the decoder takes them.

    Attributes:
      x: float[B, T, D], embeddings.
      beside: their positions and what the first layers add.
      behind: int32[B, T], the position behind each token.
    """

    x: jax.Array
    beside: Beside
    behind: jax.Array


def read(
    self: Reader,
    tokens: jax.Array,
    image_embeds: jax.Array,
    *,
    positions: jax.Array,
    prefix: tuple[int, ...] = (),
    remat_policy: Callable[..., bool] | None = None,
    depth: int | None = None,
) -> jax.Array:
    """Hidden states at some positions of each row; see `interface.Model.read`.

    With a `depth`, what DeepStack adds behind the last of these layers is left out; tokens of text get none.
    """
    before = self.embed(jnp.array([prefix])) if prefix else None
    rows = _rows(self, tokens, image_embeds, len(prefix))
    return self.language_model.read(rows.x, positions, before, remat_policy, depth, rows.beside)


def prefill(
    self: Reader,
    tokens: jax.Array,
    features: jax.Array | None,
    lengths: jax.Array,
    beams: int,
    steps: int,
    cache: CacheFormat = "as_weights",
) -> tuple[jax.Array, PlacedCache]:
    """Logits of the token that follows each prompt, and the cache; see `interface.Model.prefill`."""
    model = self.language_model
    if features is None:
        states, made = model.prefill(self.embed(tokens), lengths, beams, steps, cache)
        return reading.logits(self, states), PlacedCache(made, jnp.zeros_like(lengths))
    pieces = model.target.pieces(tokens)
    rows = pieces.each(lambda rows: _rows(self, rows[0], self.project(rows[1]), 0), (tokens, features))
    states, made = model.prefill(rows.x, lengths, beams, steps, cache, rows.beside)
    behind = jnp.take_along_axis(rows.behind, (lengths - 1)[:, None], axis=1)[:, 0]
    return reading.logits(self, states), PlacedCache(made, behind - lengths)


def extend(
    self: Reader,
    tokens: jax.Array,
    positions: jax.Array,
    ends: jax.Array,
    cache: PlacedCache,
    parts: Sequence[DecoderLayer],
) -> tuple[jax.Array, PlacedCache]:
    """Logits behind several tokens of each beam, and the cache with them; see `interface.Model.extend`."""
    embeds, places = self.embed(tokens), positions + cache.shift
    states, inner = self.language_model.extend(embeds, places, ends, cache.inner, parts)
    return reading.logits(self, states), cache._replace(inner=inner)


def decode(
    self: Reader, token: jax.Array, positions: jax.Array, cache: PlacedCache, parts: Sequence[DecoderLayer]
) -> tuple[jax.Array, PlacedCache]:
    """Logits behind one further token of each beam, and the cache with it; see `interface.Model.decode`."""
    embeds, places = self.embed(token), positions + cache.shift[:, None]
    states, inner = self.language_model.decode(embeds, places, cache.inner, parts)
    return reading.logits(self, states), cache._replace(inner=inner)


def _rows(model: Reader, tokens: jax.Array, image_embeds: jax.Array, ahead: int) -> _Read:
    config, text = model.config, model.config.text
    slots = tokens == config.image_token_id
    words = model.embed(jnp.where(slots, 0, tokens))
    filled = fill_image_slots(image_embeds.astype(words.dtype), slots)
    embeds, place = jnp.split(filled, [filled.shape[-1] - DIGITS], axis=-1)
    parts = embeds.reshape(*slots.shape, -1, text.width).swapaxes(1, 2)
    x = jnp.where(slots[..., None], parts[:, 0], words)
    added = jnp.where(slots[:, None, :, None], parts[:, 1:], 0)
    lie, behind = token_positions(slots, *from_digits(place))
    rotary = rotary_of(ahead + lie, config.axes, text.head_size, text.rope_theta)
    return _Read(x, Beside(rotary, added), ahead + behind)
