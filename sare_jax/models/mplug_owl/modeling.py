"""mPLUG-Owl: a frozen vision tower, the tuned abstractor, and a LLaMA that reads its output as tokens."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.mplug_owl.abstractor import Abstractor
from sare_jax.models.mplug_owl.config import OwlConfig
from sare_jax.models.mplug_owl.tower import OwlTower
from sare_jax.models.shared.gather import fill_image_slots
from sare_jax.models.shared.layers import Embedding, Linear, gathered
from sare_jax.models.shared.llama import Cache, DecoderLayer, Llama
from sare_jax.models.shared.target import Target


class MplugOwl(nnx.Module):
    """The whole model, an `interface.Model`, where arguments and results are described."""

    def __init__(self, config: OwlConfig, target: Target, *, rngs: nnx.Rngs):
        self.vision_tower = OwlTower(config.vision, rngs=rngs)
        self.abstractor = Abstractor(config, rngs=rngs)
        self.embed = Embedding(config.text.vocab_size, config.text.width, rngs=rngs)
        self.language_model = Llama(config.text, target, rngs=rngs)
        self.head = Linear(config.text.width, config.text.vocab_size, rngs=rngs)
        self.config = config
        self.target = target

    def encode_images(self, pixels: jax.Array) -> jax.Array:
        """All tokens of the tower, the class token first, in its dtype."""
        return jax.lax.stop_gradient(self.target.few_rows(self.vision_tower, pixels))

    def project(self, features: jax.Array) -> jax.Array:
        """The abstractor: 257 features of an image become 65 embeddings."""
        return self.abstractor(features)

    def read(
        self,
        tokens: jax.Array,
        image_embeds: jax.Array,
        *,
        positions: jax.Array,
        prefix: tuple[int, ...] = (),
        remat_policy: Callable[..., bool] | None = None,
    ) -> jax.Array:
        """Hidden states at some positions of each row, final norm included."""
        before = self.embed(jnp.array([prefix])) if prefix else None
        return self.language_model.read(self._embed(tokens, image_embeds), positions, before, remat_policy)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """float[..., D] hidden states -> float32[..., V] logits."""
        return jnp.matmul(hidden, gathered(self.head.kernel[...]), preferred_element_type=jnp.float32)

    def prefill(
        self, tokens: jax.Array, features: jax.Array | None, lengths: jax.Array, beams: int, steps: int
    ) -> tuple[jax.Array, Cache]:
        """Logits of the token that follows each prompt, and the cache."""
        words = self.embed(tokens) if features is None else self._embed(tokens, self.project(features))
        hidden, cache = self.language_model.prefill(words, lengths, beams, steps)
        return self.logits(hidden), cache

    def parts(self) -> tuple[DecoderLayer, ...]:
        """The decoder's layers as `decode` runs them."""
        return self.language_model.parts()

    def decode(
        self, token: jax.Array, positions: jax.Array, cache: Cache, parts: Sequence[DecoderLayer]
    ) -> tuple[jax.Array, Cache]:
        """Logits of the token behind one further token of each beam, and the cache with it."""
        hidden, cache = self.language_model.decode(self.embed(token), positions, cache, parts)
        return self.logits(hidden), cache

    def _embed(self, tokens: jax.Array, image_embeds: jax.Array) -> jax.Array:
        slots = tokens == self.config.image_token_id
        words = self.embed(jnp.where(slots, 0, tokens))
        return jnp.where(slots[..., None], fill_image_slots(image_embeds.astype(words.dtype), slots), words)
