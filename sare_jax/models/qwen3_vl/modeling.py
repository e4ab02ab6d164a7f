"""Qwen3-VL: a frozen vision tower, the tuned mergers, and a Qwen3 that reads their output as tokens."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.qwen3_vl.config import Qwen3VLConfig
from sare_jax.models.qwen3_vl.tower import EPS, VisionTower
from sare_jax.models.shared import reading
from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.layers import (
    BiasedLinear,
    Embedding,
    LayerNorm,
    Linear,
    RMSNorm,
    Stack,
    exact_gelu,
)
from sare_jax.models.shared.llama import Llama
from sare_jax.models.shared.qwen_vl import reading as qwen_reading
from sare_jax.models.shared.qwen_vl.config import DIGITS
from sare_jax.models.shared.qwen_vl.vision import in_parts
from sare_jax.models.shared.target import Target

# Trainable weights are float32 and an update is small beside them, so products keep float32's precision even
# where the device's default is lower.
_EXACT = jax.lax.Precision.HIGHEST


class Merger(nnx.Module):
    """The patches of an image token -> one vector of the language model; parameters stacked by `stack`."""

    def __init__(self, normed: int, inner: int, outer: int, *, stack: Stack = (), rngs: nnx.Rngs):
        self.norm = LayerNorm(normed, EPS, stack=stack)
        self.fc_1 = BiasedLinear(inner, inner, stack=stack, rngs=rngs)
        self.fc_2 = BiasedLinear(inner, outer, stack=stack, rngs=rngs)

    def __call__(self, patches: jax.Array) -> jax.Array:
        """float[..., m · D_v] -> float[..., D] in the merger's dtype; the norm takes `normed` at a time."""
        normed = self.norm.scale[...].shape[-1]
        x = patches.astype(self.fc_1.kernel[...].dtype)
        x = self.norm(x.reshape(*x.shape[:-1], -1, normed)).reshape(x.shape)
        return self.fc_2(exact_gelu(self.fc_1(x, _EXACT)), _EXACT)


class Qwen3VL(nnx.Module):
    """The whole model, an `interface.Model`, where arguments and results are described."""

    read, prefill, decode = qwen_reading.read, qwen_reading.prefill, qwen_reading.decode
    logits: Callable[..., jax.Array] = reading.logits
    parts = reading.parts

    def __init__(self, config: Qwen3VLConfig, target: Target, *, rngs: nnx.Rngs):
        width, inner = config.vision.width, config.vision.width * config.patches.merge**2
        taps = (len(config.vision.taps),)
        self.vision_tower = VisionTower(config, rngs=rngs)
        self.merger = Merger(width, inner, config.text.width, rngs=rngs)
        self.deepstack = Merger(inner, inner, config.text.width, stack=taps, rngs=rngs)
        self.embed = Embedding(config.text.vocab_size, config.text.width, rngs=rngs)
        self.language_model = Llama(config.text, target, _norms, rngs=rngs)
        if not config.text.tied:
            self.head = Linear(config.text.width, config.text.vocab_size, rngs=rngs)
        self.config = config
        self.target = target

    def encode_images(self, pixels: jax.Array) -> jax.Array:
        """Pictures float32[I, N, 3 · side² + 2] -> what the mergers take, float[I, N / merge², F]."""
        heads = self.config.vision.num_heads
        return jax.lax.stop_gradient(in_parts(self.vision_tower, pixels, heads, self.target))

    def project(self, features: jax.Array) -> jax.Array:
        """Each feature -> [D | n · D | place], float[..., (1 + n) · D + 4]; see `qwen_vl.reading`."""
        patches, place = jnp.split(features, [features.shape[-1] - DIGITS], axis=-1)
        first, *others = jnp.split(patches, 1 + len(self.config.vision.taps), axis=-1)
        embeds = self.merger(first)
        _, added = jax.lax.scan(lambda _, at: (None, at[0](at[1])), None, (self.deepstack, jnp.stack(others)))
        return jnp.concatenate([embeds, *added, place.astype(embeds.dtype)], axis=-1)


def _norms(config: TextConfig, stack: Stack) -> tuple[RMSNorm, RMSNorm, None]:
    """Queries and keys are normalised head by head, before they are rotated."""
    on_q, on_k = (RMSNorm(config.head_size, config.eps, stack=stack) for _ in range(2))
    return on_q, on_k, None
