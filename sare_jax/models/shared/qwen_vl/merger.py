"""What is tuned of a Qwen-VL: the patches of an image token become one vector of the language model."""

import jax
from flax import nnx

from sare_jax.models.shared.layers import BiasedLinear, LayerNorm, RMSNorm, Stack, exact_gelu

# Trainable weights are float32 and an update is small beside them, so products keep float32's precision even
# where the device's default is lower.
_EXACT = jax.lax.Precision.HIGHEST


class Merger(nnx.Module):
    """A norm, and two linear layers with an exact GELU between; parameters stacked by `stack`."""

    def __init__(
        self, norm: LayerNorm | RMSNorm, inner: int, outer: int, *, stack: Stack = (), rngs: nnx.Rngs
    ):
        self.norm = norm
        self.fc_1 = BiasedLinear(inner, inner, stack=stack, rngs=rngs)
        self.fc_2 = BiasedLinear(inner, outer, stack=stack, rngs=rngs)

    def __call__(self, patches: jax.Array) -> jax.Array:
        """float[..., m · D_v] -> float[..., D] in the merger's dtype; the norm takes its width at a time."""
        width = self.norm.scale[...].shape[-1]
        x = patches.astype(self.fc_1.kernel[...].dtype)
        x = self.norm(x.reshape(*x.shape[:-1], -1, width)).reshape(x.shape)
        return self.fc_2(exact_gelu(self.fc_1(x, _EXACT)), _EXACT)
