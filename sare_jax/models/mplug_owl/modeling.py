"""mPLUG-Owl: a frozen vision tower, the tuned abstractor, and a LLaMA that reads its output as tokens."""

import jax
from flax import nnx

from sare_jax.models.mplug_owl.abstractor import Abstractor
from sare_jax.models.mplug_owl.config import OwlConfig
from sare_jax.models.mplug_owl.tower import OwlTower
from sare_jax.models.shared import reading
from sare_jax.models.shared.layers import Embedding, Linear
from sare_jax.models.shared.llama import Llama
from sare_jax.models.shared.target import Target


class MplugOwl(nnx.Module):
    """The whole model, an `interface.Model`, where arguments and results are described."""

    read, logits = reading.read, reading.logits
    prefill, extend = reading.prefill, reading.extend
    parts, decode = reading.parts, reading.decode

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

    def project_dropping(self, features: jax.Array, keys: jax.Array, rate: float) -> jax.Array:
        """As `project`, with attention weights dropped as in the published training."""
        return self.abstractor(features, keys, rate)
