"""EVA ViT-g, as BLIP-2 uses it: no norm behind the last block, and keys without a bias.

In 16 bits its matrices are float16, as they were published, and norms and the residual stream float32, as in
MiniGPT-4's own code under autocast.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.shared.clip_vit import cut_patches
from sare_jax.models.shared.config import VisionConfig
from sare_jax.models.shared.layers import BiasedLinear, LayerNorm, Linear, exact_gelu, gathered


class EvaLayer(nnx.Module):
    """One pre-norm block; parameters stacked [L, ...]."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width, stack = config.width, (config.num_layers,)
        self.norm_1 = LayerNorm(width, config.eps, stack=stack)
        self.qkv = Linear(width, 3 * width, stack=stack, rngs=rngs)
        self.q_bias = nnx.Param(jnp.zeros((*stack, width)))
        self.v_bias = nnx.Param(jnp.zeros((*stack, width)))
        self.out = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.norm_2 = LayerNorm(width, config.eps, stack=stack)
        self.fc_1 = BiasedLinear(width, config.mlp, stack=stack, rngs=rngs)
        self.fc_2 = BiasedLinear(config.mlp, width, stack=stack, rngs=rngs)
        self.num_heads = config.num_heads

    def __call__(self, x: jax.Array) -> jax.Array:
        """float[I, T, D] -> float[I, T, D], with one layer's parameters."""
        dtype = self.qkv.kernel[...].dtype
        x = x + self._attend(self.norm_1(x).astype(dtype))
        return x + self.fc_2(exact_gelu(self.fc_1(self.norm_2(x).astype(dtype))))

    def _attend(self, x: jax.Array) -> jax.Array:
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        heads = (*x.shape[:-1], self.num_heads, -1)
        q, k, v = (part.reshape(heads) for part in (q + self.q_bias[...], k, v + self.v_bias[...]))
        # In float32: not every backend has float16 products that are summed in float32.
        q, k, v = (part.astype(jnp.float32) for part in (q, k, v))
        return self.out(jax.nn.dot_product_attention(q, k, v).reshape(x.shape).astype(x.dtype))


class EvaTower(nnx.Module):
    """Patches, class token, positions, and the blocks."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        side, width = config.patch_size, config.width
        patch = jax.random.normal(rngs.params(), (side, side, config.channels, width))
        self.patch_kernel = nnx.Param(patch * (side * side * config.channels) ** -0.5)
        self.patch_bias = nnx.Param(jnp.zeros(width))
        self.class_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 1, width)))
        positions = jax.random.normal(rngs.params(), (1, config.num_patches + 1, width))
        self.positions = nnx.Param(0.02 * positions)
        self.layers = EvaLayer(config, rngs=rngs)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Output of the last block.

        Args:
          pixels: float[I, H, W, 3], resized and normalised.

        Returns:
          float[I, 1 + P, D]; the class token comes first. Float32 where the tower is kept in 16 bits.
        """
        kernel = self.patch_kernel[...]
        patches = cut_patches(pixels.astype(kernel.dtype), kernel.shape[0])
        tokens = patches @ kernel.reshape(-1, kernel.shape[-1]) + self.patch_bias[...]
        first = self.class_token[...]
        first = jnp.broadcast_to(first, (len(pixels), *first.shape[1:]))
        x = jnp.concatenate([first, tokens.astype(first.dtype)], axis=1) + self.positions[...]
        x, _ = jax.lax.scan(lambda x, layer: (gathered(layer)(x), None), x, self.layers)
        return x
