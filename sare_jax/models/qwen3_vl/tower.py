"""Qwen3-VL's vision transformer: patches of pictures of any size, positions interpolated from one table."""

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.qwen3_vl.config import Qwen3VLConfig, VisionConfig
from sare_jax.models.shared.layers import BiasedLinear, LayerNorm, gathered
from sare_jax.models.shared.qwen_vl.vision import (
    Patches,
    attend,
    embed_patches,
    feature_digits,
    rotary_in_grid,
    taken_apart,
)

EPS = 1e-6  # of the tower's and the mergers' norms


class VisionLayer(nnx.Module):
    """One pre-norm block; parameters stacked [L, ...]."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width, stack = config.width, (config.num_layers,)
        self.norm_1 = LayerNorm(width, EPS, stack=stack)
        self.qkv = BiasedLinear(width, 3 * width, stack=stack, rngs=rngs)
        self.out = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.norm_2 = LayerNorm(width, EPS, stack=stack)
        self.fc_1 = BiasedLinear(width, config.mlp, stack=stack, rngs=rngs)
        self.fc_2 = BiasedLinear(config.mlp, width, stack=stack, rngs=rngs)
        self.num_heads = config.num_heads

    def __call__(self, x: jax.Array, rotary: tuple[jax.Array, jax.Array], real: jax.Array) -> jax.Array:
        """float[I, N, D] -> float[I, N, D]; `real` bool[I, N] says which patches are the picture's."""
        x = x + self.out(attend(self.qkv(self.norm_1(x)), self.num_heads, rotary, real[:, None]))
        return x + self.fc_2(jax.nn.gelu(self.fc_1(self.norm_2(x)), approximate=True))


class VisionTower(nnx.Module):
    """The tower, up to the patches that the mergers take."""

    def __init__(self, config: Qwen3VLConfig, *, rngs: nnx.Rngs):
        vision, cut = config.vision, config.patches
        kernel = jax.random.normal(rngs.params(), (cut.frames, 3, cut.side, cut.side, vision.width))
        self.patch_kernel = nnx.Param(kernel * (cut.frames * 3 * cut.side**2) ** -0.5)
        self.patch_bias = nnx.Param(jnp.zeros(vision.width))
        places = jax.random.normal(rngs.params(), (vision.table_side**2, vision.width))
        self.positions = nnx.Param(0.02 * places)
        self.layers = VisionLayer(vision, rngs=rngs)
        self.config = vision
        self.merge = cut.merge

    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Pictures float32[I, N, 3 · side² + 2] as the processor gives them -> their features.

        Returns:
          float[I, N / merge², F]: of each image token its patches at the tower's end, then those behind each
          tap, then its place in the image (`positions.digits`).
        """
        patches = taken_apart(pictures, self.merge)
        x = embed_patches(patches.pixels, self.patch_kernel[...]) + self.patch_bias[...]
        x = x + self._positions_of(patches).astype(x.dtype)
        rotary = rotary_in_grid(patches, self.config.width // self.config.num_heads)
        taps = jnp.array(self.config.taps)[:, None, None, None]

        def run(carry: tuple, layer: VisionLayer) -> tuple[tuple, None]:
            x, index, read = carry
            x = gathered(layer)(x, rotary, patches.real)
            return (x, index + 1, jnp.where(taps == index, x, read)), None

        start = (x, jnp.int32(0), jnp.zeros((len(taps), *x.shape), x.dtype))
        (x, _, read), _ = jax.lax.scan(run, start, self.layers)
        parts = [part.reshape(len(x), -1, x.shape[-1] * self.merge**2) for part in (x, *read)]
        return jnp.concatenate([*parts, feature_digits(patches, self.merge, x.dtype)], axis=-1)

    def _positions_of(self, patches: Patches) -> jax.Array:
        """Bilinear interpolation of the learned positions, corner to corner, float32[I, N, D]."""
        table, side = self.positions[...].astype(jnp.float32), self.config.table_side
        rows = _taps(patches.row, patches.height, side)
        columns = _taps(patches.column, patches.width, side)
        total = jnp.zeros((*patches.row.shape, table.shape[-1]))
        for row, share in rows:
            for column, other in columns:
                total += table[row * side + column] * (share * other)[..., None]
        return total


def _taps(index: jax.Array, count: jax.Array, side: int) -> list[tuple[jax.Array, jax.Array]]:
    """The two entries of an axis of the table between which each index of an axis lies, and their shares."""
    place = index.astype(jnp.float32) * (side - 1) / jnp.maximum(count - 1, 1)
    first = jnp.floor(place)
    taps = []
    for offset in (0, 1):
        share = jnp.maximum(1 - jnp.abs(place - first - offset), 0)
        taps.append((jnp.clip(first.astype(jnp.int32) + offset, 0, side - 1), share))
    return taps
