"""MiniGPT-4: image tokens of a frozen tower, one linear layer, and a LLaMA that reads them as tokens."""

import jax
from flax import nnx

from sare_jax.models.minigpt4.config import GROUP, VISION_NORM_EPS, MiniGpt4Config
from sare_jax.models.minigpt4.eva import EvaTower
from sare_jax.models.minigpt4.qformer import QFormer
from sare_jax.models.shared import reading
from sare_jax.models.shared.layers import BiasedLinear, Embedding, LayerNorm, Linear
from sare_jax.models.shared.llama import Llama
from sare_jax.models.shared.target import Target


class MiniGpt4(nnx.Module):
    """The whole model, an `interface.Model`, where arguments and results are described."""

    read, logits = reading.read, reading.logits
    prefill, extend = reading.prefill, reading.extend
    parts, decode = reading.parts, reading.decode

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

    def _features(self, pixels: jax.Array) -> jax.Array:
        image = self.vision_norm(self.vision_tower(pixels))
        if self.config.qformer:
            return self.qformer(image)
        return image[:, 1:].reshape(len(image), -1, GROUP * image.shape[-1])
