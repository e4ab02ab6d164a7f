"""LLaVA: a CLIP tower, a projector, and a LLaMA that reads projected image features as tokens."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.shared.clip_vit import VisionTower
from sare_jax.models.shared.gather import fill_image_slots
from sare_jax.models.shared.layers import BiasedLinear, Embedding, Linear, exact_gelu, gathered
from sare_jax.models.shared.llama import Cache, DecoderLayer, Llama
from sare_jax.models.shared.target import Target


class Projector(nnx.Module):
    """Two linear layers with an exact GELU between, from the tower's width to the language model's."""

    def __init__(self, inner: int, outer: int, *, rngs: nnx.Rngs):
        self.linear_1 = BiasedLinear(inner, outer, rngs=rngs)
        self.linear_2 = BiasedLinear(outer, outer, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """float[..., D_v] -> [..., D] in the projector's own dtype.

        Trainable weights are float32 and an update is small beside them, so the products keep float32's
        precision even where the device's default is lower.
        """
        precision = jax.lax.Precision.HIGHEST
        x = features.astype(self.linear_1.kernel[...].dtype)
        return self.linear_2(exact_gelu(self.linear_1(x, precision)), precision)


class Llava(nnx.Module):
    """The whole model. Every method is a pure function of its arguments and the weights."""

    def __init__(self, config: LlavaConfig, target: Target, *, rngs: nnx.Rngs):
        self.vision_tower = VisionTower(config.vision, config.num_vision_layers_run, rngs=rngs)
        self.projector = Projector(config.vision.width, config.text.width, rngs=rngs)
        self.embed = Embedding(config.text.vocab_size, config.text.width, rngs=rngs)
        self.language_model = Llama(config.text, target, rngs=rngs)
        if not config.text.tied:
            self.head = Linear(config.text.width, config.text.vocab_size, rngs=rngs)
        self.config = config
        self.target = target

    def encode_images(self, pixels: jax.Array) -> jax.Array:
        """Features of images, before the projector.

        Args:
          pixels: float[I, H, W, 3], resized and normalised.

        Returns:
          float[I, P, D_v] in the tower's dtype. No gradient flows back from it.
        """
        hidden = self.target.few_rows(self.vision_tower, pixels)
        return jax.lax.stop_gradient(hidden if self.config.keep_class_token else hidden[:, 1:])

    def project(self, features: jax.Array) -> jax.Array:
        """Features float[..., D_v] of `encode_images` -> float[..., D], by the mapping layers alone."""
        return self.projector(features)

    def hidden(
        self,
        tokens: jax.Array,
        features: jax.Array | None,
        remat_policy: Callable[..., bool] | None = None,
    ) -> jax.Array:
        """Hidden states of whole rows, final norm included; causal, so right padding needs no mask.

        Args:
          tokens: int32[B, T]; a row holds `image_token_id` P times for each of its images, wherever they are.
          features: float[B, M * P, D_v], those of `encode_images` for up to M images of a row, one image
            behind the other. The image tokens of a row take them in order; those that remain, in a row with
            fewer images or none, are not used. None where no row has an image.
          remat_policy: see `Llama.__call__`.

        Returns:
          float[B, T, D].

        Raises:
          ValueError: the features are not those of whole images.
        """
        return self.language_model(self._merge_image(tokens, features), remat_policy)

    def read(
        self,
        tokens: jax.Array,
        image_embeds: jax.Array,
        *,
        positions: jax.Array,
        prefix: tuple[int, ...] = (),
        remat_policy: Callable[..., bool] | None = None,
    ) -> jax.Array:
        """Hidden states at some positions of each row, as training needs them; equal to those of `hidden`.

        Args:
          tokens: int32[B, T], as in `hidden`, without the prefix.
          image_embeds: float[B, M * P, D], from `project`.
          positions: int32[B, W], counted without the prefix.
          prefix: text that stands before every row; it is run once, and no gradient passes through it.
          remat_policy: see `Llama.__call__`.

        Returns:
          float[B, W, D].
        """
        words = self._embed(tokens, image_embeds)
        before = self.embed(jnp.array([prefix])) if prefix else None
        return self.language_model.read(words, positions, before, remat_policy)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """float[..., D] hidden states -> float32[..., V] logits."""
        head = self.embed.table[...].T if self.config.text.tied else self.head.kernel[...]
        return jnp.matmul(hidden, gathered(head), preferred_element_type=jnp.float32)

    def prefill(
        self, tokens: jax.Array, features: jax.Array | None, lengths: jax.Array, beams: int, steps: int
    ) -> tuple[jax.Array, Cache]:
        """Runs the prompts of a batch.

        Args:
          tokens: int32[B, T], right-padded.
          features: as in `hidden`.
          lengths: int32[B], tokens of each row.
          beams: R, continuations of each prompt.
          steps: tokens that `decode` will add to each.

        Returns:
          float32[B, V] logits of the token that follows each prompt, and the cache.
        """
        words = self._merge_image(tokens, features)
        hidden, cache = self.language_model.prefill(words, lengths, beams, steps)
        return self.logits(hidden), cache

    def parts(self) -> tuple[DecoderLayer, ...]:
        """The decoder's layers as `decode` runs them; to be called once, outside of the loop over steps."""
        return self.language_model.parts()

    def decode(
        self, token: jax.Array, positions: jax.Array, cache: Cache, parts: Sequence[DecoderLayer]
    ) -> tuple[jax.Array, Cache]:
        """Runs one further token of each beam.

        Args:
          token: int32[B, R].
          positions: int32[B], its place in the row, counted without padding.
          cache: from `prefill` or the step before.
          parts: from `parts`.

        Returns:
          float32[B, R, V] logits of the token after it, and the cache with this token in it.
        """
        hidden, cache = self.language_model.decode(self.embed(token), positions, cache, parts)
        return self.logits(hidden), cache

    def _merge_image(self, tokens: jax.Array, features: jax.Array | None) -> jax.Array:
        """Embeds tokens, with projected features, in order, where the image tokens stand."""
        return self.embed(tokens) if features is None else self._embed(tokens, self.project(features))

    def _embed(self, tokens: jax.Array, image_embeds: jax.Array) -> jax.Array:
        slots = tokens == self.config.image_token_id
        words = self.embed(jnp.where(slots, 0, tokens))
        vision, count = self.config.vision, self.config.num_image_tokens
        if image_embeds.shape[1] % count:
            raise ValueError(
                f"{image_embeds.shape[1]} image features a row, need {count} an image (image_size "
                f"{vision.image_size}, patch_size {vision.patch_size}, keep_class_token "
                f"{self.config.keep_class_token})"
            )
        return jnp.where(slots[..., None], fill_image_slots(image_embeds.astype(words.dtype), slots), words)
