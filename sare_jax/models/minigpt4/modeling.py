"""MiniGPT-4: image tokens of a frozen tower, one linear layer, and a LLaMA that reads them as tokens."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.minigpt4.config import GROUP, VISION_NORM_EPS, MiniGpt4Config
from sare_jax.models.minigpt4.eva import EvaTower
from sare_jax.models.minigpt4.qformer import QFormer
from sare_jax.models.shared.gather import fill_image_slots
from sare_jax.models.shared.layers import BiasedLinear, Embedding, LayerNorm, Linear, gathered
from sare_jax.models.shared.llama import Cache, DecoderLayer, Llama
from sare_jax.models.shared.target import Target


class MiniGpt4(nnx.Module):
    """The whole model, an `interface.Model`, where arguments and results are described."""

    def __init__(self, config: MiniGpt4Config, target: Target, *, rngs: nnx.Rngs):
        self.vision_tower = EvaTower(config.vision, rngs=rngs)
        self.vision_norm = LayerNorm(config.vision.width, VISION_NORM_EPS)
        if config.qformer:
            self.qformer = QFormer(config.qformer, config.vision.width, rngs=rngs)
        self.llama_proj = BiasedLinear(config.feature_width, config.text.width, rngs=rngs)
        self.embed = Embedding(config.text.vocab_size, config.text.width, rngs=rngs)
        self.language_model = Llama(config.text, target, rngs=rngs)
        if not config.text.tied:
            self.head = Linear(config.text.width, config.text.vocab_size, rngs=rngs)
        self.config = config
        self.target = target

    def encode_images(self, pixels: jax.Array) -> jax.Array:
        """Image features, in the dtype of the tower's matrices: the Q-Former's output, or else patches.

        Patches come without the class token; every four consecutive ones are one feature, row by row.
        """
        features = self.target.few_rows(self._features, pixels)
        return jax.lax.stop_gradient(features.astype(self.vision_tower.patch_kernel[...].dtype))

    def project(self, features: jax.Array) -> jax.Array:
        """`llama_proj`, in its own dtype.

        Trainable weights are float32 and an update is small beside them, so the product keeps float32's
        precision even where the device's default is lower.
        """
        x = features.astype(self.llama_proj.kernel[...].dtype)
        return self.llama_proj(x, jax.lax.Precision.HIGHEST)

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
        head = self.embed.table[...].T if self.config.text.tied else self.head.kernel[...]
        return jnp.matmul(hidden, gathered(head), preferred_element_type=jnp.float32)

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

    def _features(self, pixels: jax.Array) -> jax.Array:
        image = self.vision_norm(self.vision_tower(pixels))
        if self.config.qformer:
            return self.qformer(image)
        return image[:, 1:].reshape(len(image), -1, GROUP * image.shape[-1])

    def _embed(self, tokens: jax.Array, image_embeds: jax.Array) -> jax.Array:
        slots = tokens == self.config.image_token_id
        words = self.embed(jnp.where(slots, 0, tokens))
        return jnp.where(slots[..., None], fill_image_slots(image_embeds.astype(words.dtype), slots), words)
