"""Qwen3-VL: a frozen vision tower, the tuned mergers, and a Qwen3 that reads their output as tokens."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.qwen3_vl.config import Qwen3VLConfig
from sare_jax.models.qwen3_vl.tower import EPS, VisionTower
from sare_jax.models.shared import reading
from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.layers import Embedding, LayerNorm, Linear, RMSNorm, Stack
from sare_jax.models.shared.llama import Llama
from sare_jax.models.shared.qwen_vl import reading as qwen_reading
from sare_jax.models.shared.qwen_vl.config import DIGITS
from sare_jax.models.shared.qwen_vl.merger import Merger
from sare_jax.models.shared.qwen_vl.vision import in_parts
from sare_jax.models.shared.target import Target


class Qwen3VL(nnx.Module):
    """The whole model, an `interface.Model`, where arguments and results are described."""

    read, prefill = qwen_reading.read, qwen_reading.prefill
    extend, decode = qwen_reading.extend, qwen_reading.decode
    logits: Callable[..., jax.Array] = reading.logits
    parts = reading.parts

    def __init__(self, config: Qwen3VLConfig, target: Target, *, rngs: nnx.Rngs):
        width, inner = config.vision.width, config.vision.width * config.patches.merge**2
        taps = (len(config.vision.taps),)
        self.vision_tower = VisionTower(config, rngs=rngs)
        self.merger = Merger(LayerNorm(width, EPS), inner, config.text.width, rngs=rngs)
        norms = LayerNorm(inner, EPS, stack=taps)
        self.deepstack = Merger(norms, inner, config.text.width, stack=taps, rngs=rngs)
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
