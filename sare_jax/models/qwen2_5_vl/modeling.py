"""Qwen2.5-VL: a frozen vision tower, the tuned merger, and a Qwen2.5 that reads its output as tokens."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.qwen2_5_vl.config import Qwen25VLConfig
from sare_jax.models.qwen2_5_vl.tower import EPS, VisionTower
from sare_jax.models.shared import reading
from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.layers import Embedding, Linear, RMSNorm, Stack
from sare_jax.models.shared.llama import Llama
from sare_jax.models.shared.qwen_vl import reading as qwen_reading
from sare_jax.models.shared.qwen_vl.config import DIGITS
from sare_jax.models.shared.qwen_vl.merger import Merger
from sare_jax.models.shared.qwen_vl.vision import in_parts
from sare_jax.models.shared.target import Target


class Shift(nnx.Module):
    """Adds a bias, float[*stack, N · H], to heads float[..., N, H]."""

    def __init__(self, heads: int, size: int, stack: Stack):
        self.bias = nnx.Param(jnp.zeros((*stack, heads * size)))

    def __call__(self, heads: jax.Array) -> jax.Array:
        """float[..., N, H] -> float[..., N, H]."""
        return heads + self.bias[...].reshape(heads.shape[-2:])


class Qwen25VL(nnx.Module):
    """The whole model, an `interface.Model`, where arguments and results are described."""

    read, prefill = qwen_reading.read, qwen_reading.prefill
    extend, decode = qwen_reading.extend, qwen_reading.decode
    logits: Callable[..., jax.Array] = reading.logits
    parts = reading.parts

    def __init__(self, config: Qwen25VLConfig, target: Target, *, rngs: nnx.Rngs):
        width, inner = config.vision.width, config.vision.width * config.patches.merge**2
        self.vision_tower = VisionTower(config, rngs=rngs)
        self.merger = Merger(RMSNorm(width, EPS), inner, config.text.width, rngs=rngs)
        self.embed = Embedding(config.text.vocab_size, config.text.width, rngs=rngs)
        self.language_model = Llama(config.text, target, _biases, rngs=rngs)
        if not config.text.tied:
            self.head = Linear(config.text.width, config.text.vocab_size, rngs=rngs)
        self.config = config
        self.target = target

    def encode_images(self, pixels: jax.Array) -> jax.Array:
        """Pictures float32[I, N, 3 · side² + 2] -> what the merger takes, float[I, N / merge², F]."""
        heads = self.config.vision.num_heads
        return jax.lax.stop_gradient(in_parts(self.vision_tower, pixels, heads, self.target))

    def project(self, features: jax.Array) -> jax.Array:
        """Each feature -> [D | place], float[..., D + 4]; see `qwen_vl.reading`."""
        patches, place = jnp.split(features, [features.shape[-1] - DIGITS], axis=-1)
        embeds = self.merger(patches)
        return jnp.concatenate([embeds, place.astype(embeds.dtype)], axis=-1)


def _biases(config: TextConfig, stack: Stack) -> tuple[Shift, Shift, Shift]:
    """Queries, keys and values have biases, beside the linear layers so that these may have adapters."""
    queries, keys, values = (
        Shift(count, config.head_size, stack)
        for count in (config.num_heads, config.num_kv_heads, config.num_kv_heads)
    )
    return queries, keys, values
