"""Qwen2.5-VL's vision transformer: most layers attend within windows, some to the whole picture."""

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.qwen2_5_vl.config import Qwen25VLConfig, VisionConfig
from sare_jax.models.shared.layers import BiasedLinear, RMSNorm, gathered
from sare_jax.models.shared.qwen_vl.vision import (
    Patches,
    attend,
    embed_patches,
    feature_digits,
    rotary_in_grid,
    taken_apart,
)

EPS = 1e-6  # of the tower's and the merger's norms


class VisionLayer(nnx.Module):
    """One pre-norm block with a SwiGLU; parameters stacked [L, ...]."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width, stack = config.width, (config.num_layers,)
        self.norm_1 = RMSNorm(width, EPS, stack=stack)
        self.qkv = BiasedLinear(width, 3 * width, stack=stack, rngs=rngs)
        self.out = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.norm_2 = RMSNorm(width, EPS, stack=stack)
        self.gate = BiasedLinear(width, config.mlp, stack=stack, rngs=rngs)
        self.up = BiasedLinear(width, config.mlp, stack=stack, rngs=rngs)
        self.down = BiasedLinear(config.mlp, width, stack=stack, rngs=rngs)
        self.num_heads = config.num_heads

    def __call__(self, x: jax.Array, rotary: tuple[jax.Array, jax.Array], visible: jax.Array) -> jax.Array:
        """float[I, N, D] -> float[I, N, D]; `visible` bool[I, N, N] says which patches each one sees."""
        x = x + self.out(attend(self.qkv(self.norm_1(x)), self.num_heads, rotary, visible))
        normal = self.norm_2(x)
        return x + self.down(jax.nn.silu(self.gate(normal)) * self.up(normal))


class VisionTower(nnx.Module):
    """The tower, up to the patches that the merger takes."""

    def __init__(self, config: Qwen25VLConfig, *, rngs: nnx.Rngs):
        vision, cut = config.vision, config.patches
        kernel = jax.random.normal(rngs.params(), (cut.frames, 3, cut.side, cut.side, vision.width))
        self.patch_kernel = nnx.Param(kernel * (cut.frames * 3 * cut.side**2) ** -0.5)
        self.layers = VisionLayer(vision, rngs=rngs)
        self.config = vision
        self.merge = cut.merge

    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Pictures float32[I, N, 3 · side² + 2] as the processor gives them -> their features.

        Returns:
          float[I, N / merge², F]: of each image token its patches, then its place (`positions.digits`).
        """
        patches = taken_apart(pictures, self.merge)
        x = embed_patches(patches.pixels, self.patch_kernel[...])
        rotary = rotary_in_grid(patches, self.config.width // self.config.num_heads)
        everywhere = patches.real[:, None]
        inside = everywhere & self._same_window(patches)
        is_whole = jnp.isin(jnp.arange(self.config.num_layers), jnp.array(self.config.whole))

        def run(x: jax.Array, at: tuple[VisionLayer, jax.Array]) -> tuple[jax.Array, None]:
            layer, whole = at
            return gathered(layer)(x, rotary, jnp.where(whole, everywhere, inside)), None

        x, _ = jax.lax.scan(run, x, (self.layers, is_whole))
        merged = x.reshape(len(x), -1, x.shape[-1] * self.merge**2)
        return jnp.concatenate([merged, feature_digits(patches, self.merge, x.dtype)], axis=-1)

    def _same_window(self, patches: Patches) -> jax.Array:
        """bool[I, N, N], which patches lie in the same window."""
        side = self.config.window * self.merge
        rows, columns = patches.row // side, patches.column // side
        same = (part[:, :, None] == part[:, None] for part in (rows, columns))
        return next(same) & next(same)
