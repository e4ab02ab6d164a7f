"""How a LLaMA reads text with image embeddings in it: all of an `interface.Model` behind its mapping layers.

Every function takes the model first, so a family's module takes over what it needs as its own methods:

    class MyModel(nnx.Module):
        read, logits = reading.read, reading.logits
        prefill, extend = reading.prefill, reading.extend
        parts, decode = reading.parts, reading.decode
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp

from sare_jax.models.shared.cache import Cache
from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.gather import fill_image_slots
from sare_jax.models.shared.head import head_product
from sare_jax.models.shared.layers import Embedding, Linear, gathered
from sare_jax.models.shared.llama import DecoderLayer, Llama
from sare_jax.settings.decoding import CacheFormat


class Settings(Protocol):
    """What these functions need to know of a family's config."""

    @property
    def text(self) -> TextConfig:
        """The language model's shapes."""
        ...

    @property
    def image_token_id(self) -> int:
        """The id that stands in every image slot."""
        ...


class Reader(Protocol):
    """A module that has a LLaMA, its embedding table and, unless that is tied, its head."""

    embed: Embedding
    language_model: Llama
    head: Linear

    @property
    def config(self) -> Settings:
        """The family's config."""
        ...

    def project(self, features: jax.Array) -> jax.Array:
        """Image features -> image embeddings."""
        ...


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
    """Hidden states at some positions of each row; see `interface.Model.read`."""
    before = self.embed(jnp.array([prefix])) if prefix else None
    words = embedded(self, tokens, image_embeds)
    return self.language_model.read(words, positions, before, remat_policy, depth)


def hidden(
    self: Reader,
    tokens: jax.Array,
    features: jax.Array | None,
    remat_policy: Callable[..., bool] | None = None,
) -> jax.Array:
    """Hidden states of whole rows, final norm included; causal, so right padding needs no mask.

    Args:
      self: the model with its weights.
      tokens: int32[B, T]; a row holds an image token for each embedding of its images, at any position.
      features: float[B, M * F, D_v], image features of up to M images of a row, one image behind the other.
        None where no row has an image.
      remat_policy: see `Llama.__call__`.

    Returns:
      float[B, T, D].
    """
    return self.language_model(_with_features(self, tokens, features), remat_policy)


def logits(self: Reader, hidden: jax.Array) -> jax.Array:
    """float[..., D] hidden states -> float32[..., V] logits."""
    head = self.embed.table[...].T if self.config.text.tied else self.head.kernel[...]
    return head_product(hidden, gathered(head))


def prefill(
    self: Reader,
    tokens: jax.Array,
    features: jax.Array | None,
    lengths: jax.Array,
    beams: int,
    steps: int,
    cache: CacheFormat = "as_weights",
) -> tuple[jax.Array, Cache]:
    """Logits of the token that follows each prompt, and the cache; see `interface.Model.prefill`."""
    pieces = self.language_model.target.pieces(tokens)
    words = pieces.each(lambda rows: _with_features(self, *rows), (tokens, features))
    states, made = self.language_model.prefill(words, lengths, beams, steps, cache)
    return logits(self, states), made


def parts(self: Reader) -> tuple[DecoderLayer, ...]:
    """The decoder's layers as `decode` runs them; to be called once, outside of the loop over steps."""
    return self.language_model.parts()


def extend(
    self: Reader,
    tokens: jax.Array,
    positions: jax.Array,
    ends: jax.Array,
    cache: Cache,
    parts: Sequence[DecoderLayer],
) -> tuple[jax.Array, Cache]:
    """Logits behind several tokens of each beam, and the cache with them; see `interface.Model.extend`."""
    states, cache = self.language_model.extend(self.embed(tokens), positions, ends, cache, parts)
    return logits(self, states), cache


def decode(
    self: Reader, token: jax.Array, positions: jax.Array, cache: Cache, parts: Sequence[DecoderLayer]
) -> tuple[jax.Array, Cache]:
    """Logits behind one further token of each beam, and the cache with it; see `interface.Model.decode`."""
    states, cache = self.language_model.decode(self.embed(token), positions, cache, parts)
    return logits(self, states), cache


def embedded(model: Reader, tokens: jax.Array, image_embeds: jax.Array) -> jax.Array:
    """Embeds tokens, with image embeddings, in order, where the image tokens stand.

    Args:
      model: the model, whose embedding table is used.
      tokens: int32[B, T], with the image token in every image slot.
      image_embeds: float[B, P, D]; embeddings beyond a row's number of slots are not used.

    Returns:
      float[B, T, D] in the table's dtype.
    """
    slots = tokens == model.config.image_token_id
    words = model.embed(jnp.where(slots, 0, tokens))
    return jnp.where(slots[..., None], fill_image_slots(image_embeds.astype(words.dtype), slots), words)


def _with_features(model: Reader, tokens: jax.Array, features: jax.Array | None) -> jax.Array:
    return model.embed(tokens) if features is None else embedded(model, tokens, model.project(features))
