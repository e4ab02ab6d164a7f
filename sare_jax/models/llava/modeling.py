"""LLaVA: a CLIP tower, a projector, and a LLaMA that reads projected image features as tokens."""

import jax
from flax import nnx

from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.shared import reading
from sare_jax.models.shared.clip_vit import VisionTower
from sare_jax.models.shared.layers import BiasedLinear, Embedding, Linear, exact_gelu
from sare_jax.models.shared.llama import Llama
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
    """The whole model, an `interface.Model`, where arguments and results are described."""

    read, hidden, logits = reading.read, reading.hidden, reading.logits
    prefill, extend = reading.prefill, reading.extend
    parts, decode = reading.parts, reading.decode

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
        """Features float[..., M * P, D_v] of `encode_images`, of M images -> embeddings float[..., M * P, D].

        Raises:
          ValueError: the features are not those of whole images.
        """
        vision, count = self.config.vision, self.config.num_image_tokens
        if features.shape[-2] % count:
            raise ValueError(
                f"{features.shape[-2]} image features a row, need {count} an image (image_size "
                f"{vision.image_size}, patch_size {vision.patch_size}, keep_class_token "
                f"{self.config.keep_class_token})"
            )
        return self.projector(features)
