"""mPLUG-Owl's vision tower: CLIP's, with queries, keys and values in one projection and a norm at its end."""

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.shared.clip_vit import cut_patches
from sare_jax.models.shared.config import VisionConfig
from sare_jax.models.shared.layers import BiasedLinear, LayerNorm, gathered, quick_gelu


class OwlVisionLayer(nnx.Module):
    """One pre-norm block; parameters stacked [L, ...]."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width, stack = config.width, (config.num_layers,)
        self.norm_1 = LayerNorm(width, config.eps, stack=stack)
        self.qkv = BiasedLinear(width, 3 * width, stack=stack, rngs=rngs)
        self.out = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.norm_2 = LayerNorm(width, config.eps, stack=stack)
        self.fc_1 = BiasedLinear(width, config.mlp, stack=stack, rngs=rngs)
        self.fc_2 = BiasedLinear(config.mlp, width, stack=stack, rngs=rngs)
        self.num_heads = config.num_heads

    def __call__(self, x: jax.Array) -> jax.Array:
        """float[I, T, D] -> float[I, T, D], with one layer's parameters."""
        # Head by head, each with its query, key and value side by side.
        fused = self.qkv(self.norm_1(x)).reshape(*x.shape[:-1], self.num_heads, 3, -1)
        attended = jax.nn.dot_product_attention(*(fused[..., part, :] for part in range(3)))
        x = x + self.out(attended.reshape(x.shape))
        return x + self.fc_2(quick_gelu(self.fc_1(self.norm_2(x))))


class OwlTower(nnx.Module):
    """Patches, class token, positions, a norm, the blocks, and a norm on all of their tokens."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        side, width = config.patch_size, config.width
        patch = jax.random.normal(rngs.params(), (side, side, config.channels, width))
        self.patch_kernel = nnx.Param(patch * (side * side * config.channels) ** -0.5)
        self.class_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 1, width)))
        positions = jax.random.normal(rngs.params(), (1, config.num_patches + 1, width))
        self.positions = nnx.Param(0.02 * positions)
        self.pre_norm = LayerNorm(width, config.eps)
        self.layers = OwlVisionLayer(config, rngs=rngs)
        self.post_norm = LayerNorm(width, config.eps)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """float[I, H, W, 3] -> float[I, 1 + patches, D_v]; the class token comes first."""
        kernel, first = self.patch_kernel[...], self.class_token[...]
        tokens = cut_patches(pixels.astype(kernel.dtype), kernel.shape[0]) @ kernel.reshape(
            -1, first.shape[-1]
        )
        first = jnp.broadcast_to(first, (len(pixels), *first.shape[1:]))
        x = self.pre_norm(jnp.concatenate([first, tokens], axis=1) + self.positions[...])
        x, _ = jax.lax.scan(lambda x, layer: (gathered(layer)(x), None), x, self.layers)
        return self.post_norm(x)
