"""The few layers that the towers share.

Einsum letters, here and in the model files: B batch, I images, T tokens, S keys, N heads, K key-value heads,
G queries a key-value head, H head size, D width, F mlp, L layers, V vocabulary, P image tokens.

A parameter may be *stacked*: its leading axes (`stack`, usually `(L,)`) number the layers, and a model runs
them with `jax.lax.scan`, which hands each call the slice of one layer.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

Stack = tuple[int, ...]


class Linear(nnx.Module):
    """`x @ kernel`, kernel float[*stack, in, out], and what an adapter beside it adds (`shared.lora`).

    The kernel may be int8, with scales of its output channels beside it (`shared.quantization`).
    """

    adapter: Any
    kernel_scale: Any

    def __init__(self, inner: int, outer: int, *, stack: Stack = (), rngs: nnx.Rngs):
        self.kernel = nnx.Param(_normal(rngs, (*stack, inner, outer), inner**-0.5))
        self.kernel_scale = None
        self.adapter = None

    def __call__(self, x: jax.Array) -> jax.Array:
        """float[..., in] -> float[..., out]."""
        result = x @ self.kernel[...]
        if self.kernel_scale is not None:
            result = scaled(result, self.kernel_scale[...])
        return result if self.adapter is None else result + self.adapter(x)


class BiasedLinear(nnx.Module):
    """`x @ kernel + bias`, kernel float[*stack, in, out], bias float[*stack, out]."""

    def __init__(self, inner: int, outer: int, *, stack: Stack = (), rngs: nnx.Rngs):
        self.kernel = nnx.Param(_normal(rngs, (*stack, inner, outer), inner**-0.5))
        self.bias = nnx.Param(jnp.zeros((*stack, outer)))

    def __call__(self, x: jax.Array, precision: jax.lax.PrecisionLike = None) -> jax.Array:
        """float[..., in] -> float[..., out]; `precision` None is the process's default."""
        return jnp.matmul(x, self.kernel[...], precision=precision) + self.bias[...]


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis, its statistics in float32."""

    def __init__(self, width: int, eps: float, *, stack: Stack = ()):
        self.scale = nnx.Param(jnp.ones((*stack, width)))
        self.bias = nnx.Param(jnp.zeros((*stack, width)))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """float[..., width] -> float[..., width]."""
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        normal = (centred * jax.lax.rsqrt(variance + self.eps)).astype(x.dtype)
        return normal * self.scale[...] + self.bias[...]


class RMSNorm(nnx.Module):
    """`scale * x / rms(x)` over the last axis, the mean square in float32 (LLaMA)."""

    def __init__(self, width: int, eps: float, *, stack: Stack = ()):
        self.scale = nnx.Param(jnp.ones((*stack, width)))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """float[..., width] -> float[..., width]."""
        wide = x.astype(jnp.float32)
        normal = wide * jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.eps)
        return normal.astype(x.dtype) * self.scale[...]


class Embedding(nnx.Module):
    """A table of vectors, float[rows, width]."""

    def __init__(self, rows: int, width: int, *, rngs: nnx.Rngs):
        self.table = nnx.Param(_normal(rngs, (rows, width), 0.02))

    def __call__(self, index: jax.Array) -> jax.Array:
        """int[...] -> float[..., width]."""
        return self.table[...][index]


def scaled(product: jax.Array, scale: jax.Array) -> jax.Array:
    """A product with an int8 kernel, float[..., out], times float32[out], in the product's dtype.

    The kernel's scale is applied here rather than to the kernel: whole numbers up to 127 are exact in
    bfloat16, so nothing of a kernel is rounded twice, and no second copy of it has to be made or kept for the
    backward pass.
    """
    return (product.astype(jnp.float32) * scale).astype(product.dtype)


def quick_gelu(x: jax.Array) -> jax.Array:
    """`x * sigmoid(1.702 x)`, the activation of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: jax.Array) -> jax.Array:
    """`x * Phi(x)` by the error function, not the tanh approximation."""
    return jax.nn.gelu(x, approximate=False)


def gathered(weights: Any) -> Any:
    """Weights, whole on each device, inside a mesh context; the same weights outside of one.

    For weights that are divided over devices whose rows differ. Called on the slice of one layer inside a
    scan, it makes the compiler gather that slice alone; left to itself, it may send activations instead.

    Args:
      weights: a module or any tree of arrays.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return weights
    # The barrier stands between the slice and its gathering. Without it the compiler gives the whole stack,
    # not the slice, the layout that a gathering likes best: a copy of all layers.
    weights = jax.lax.optimization_barrier(weights)
    return jax.lax.with_sharding_constraint(weights, PartitionSpec())


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], deviation: float) -> jax.Array:
    return deviation * jax.random.normal(rngs.params(), shape)
