"""CLIP's vision transformer, up to the hidden state that is read."""

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.shared.config import VisionConfig
from sare_jax.models.shared.layers import BiasedLinear, LayerNorm, exact_gelu, gathered, quick_gelu

_ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": exact_gelu}


class VisionLayer(nnx.Module):
    """One pre-norm block; parameters stacked [L, ...]."""

    def __init__(self, config: VisionConfig, num_layers: int, *, rngs: nnx.Rngs):
        width, stack = config.width, (num_layers,)
        self.norm_1 = LayerNorm(width, config.eps, stack=stack)
        self.q = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.k = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.v = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.out = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.norm_2 = LayerNorm(width, config.eps, stack=stack)
        self.fc_1 = BiasedLinear(width, config.mlp, stack=stack, rngs=rngs)
        self.fc_2 = BiasedLinear(config.mlp, width, stack=stack, rngs=rngs)
        self.num_heads = config.num_heads
        self.activation = config.activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """float[I, T, D] -> float[I, T, D], with one layer's parameters."""
        x = x + self._attend(self.norm_1(x))
        hidden = _ACTIVATIONS[self.activation](self.fc_1(self.norm_2(x)))
        return x + self.fc_2(hidden)

    def _attend(self, x: jax.Array) -> jax.Array:
        heads = (*x.shape[:-1], self.num_heads, -1)
        q, k, v = (project(x).reshape(heads) for project in (self.q, self.k, self.v))
        return self.out(jax.nn.dot_product_attention(q, k, v).reshape(x.shape))


class VisionTower(nnx.Module):
    """Patches, class token, positions, `pre_layrnorm`, and the first `num_layers` blocks.

    The published tower has further blocks and a final norm behind the hidden state that LLaVA reads. They
    are neither loaded nor computed.
    """

    def __init__(self, config: VisionConfig, num_layers: int, *, rngs: nnx.Rngs):
        side, width = config.patch_size, config.width
        patch = jax.random.normal(rngs.params(), (side, side, config.channels, width))
        self.patch_kernel = nnx.Param(patch * (side * side * config.channels) ** -0.5)
        self.class_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (width,)))
        positions = jax.random.normal(rngs.params(), (config.num_patches + 1, width))
        self.positions = nnx.Param(0.02 * positions)
        self.pre_norm = LayerNorm(width, config.eps)
        self.layers = VisionLayer(config, num_layers, rngs=rngs)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Hidden state behind the last layer run.

        Args:
          pixels: float[I, H, W, 3], resized and normalised.

        Returns:
          float[I, 1 + P, D_v]; the class token comes first.
        """
        x = self._embed(pixels.astype(self.patch_kernel[...].dtype))
        x, _ = jax.lax.scan(lambda x, layer: (gathered(layer)(x), None), self.pre_norm(x), self.layers)
        return x

    def _embed(self, pixels: jax.Array) -> jax.Array:
        kernel = self.patch_kernel[...]
        width = kernel.shape[-1]
        tokens = cut_patches(pixels, kernel.shape[0]) @ kernel.reshape(-1, width)
        first = jnp.broadcast_to(self.class_token[...], (len(pixels), 1, width))
        return jnp.concatenate([first, tokens], axis=1) + self.positions[...]


def cut_patches(pixels: jax.Array, side: int) -> jax.Array:
    """Pictures float[I, H, W, C] -> their patches, row by row, float[I, P, side · side · C].

    A convolution whose stride is its size is one matrix product over cut patches. Pixels at the far edges
    that fill no patch are dropped, as the convolution drops them.
    """
    images, height, breadth, channels = pixels.shape
    rows, columns = height // side, breadth // side
    patches = pixels[:, : rows * side, : columns * side]
    patches = patches.reshape(images, rows, side, columns, side, channels)
    return patches.transpose(0, 1, 3, 2, 4, 5).reshape(images, rows * columns, -1)
