"""BLIP-2's Q-Former, on its queries alone: a BERT with norms behind each part, and no text."""

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.minigpt4.config import QFormerConfig
from sare_jax.models.shared.layers import BiasedLinear, LayerNorm, Stack, exact_gelu, gathered


class Attention(nnx.Module):
    """Attention, a linear layer, and the norm of their sum with the queries' input; parameters stacked."""

    def __init__(self, config: QFormerConfig, inner: int, stack: Stack, *, rngs: nnx.Rngs):
        width = config.width
        self.query = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.key = BiasedLinear(inner, width, stack=stack, rngs=rngs)
        self.value = BiasedLinear(inner, width, stack=stack, rngs=rngs)
        self.out = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.norm = LayerNorm(width, config.eps, stack=stack)
        self.num_heads = config.num_heads

    def __call__(self, x: jax.Array, keys: jax.Array) -> jax.Array:
        """Attention from float[I, Q, D] queries to float[I, S, D_k] keys -> float[I, Q, D]."""
        dtype = self.query.kernel[...].dtype
        queries, keys = x.astype(dtype), keys.astype(dtype)
        q, k, v = map(self._heads, (self.query(queries), self.key(keys), self.value(keys)))
        attended = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
        return self.norm(x + self.out(attended.astype(dtype)))

    def _heads(self, x: jax.Array) -> jax.Array:
        """float[I, S, D] -> float32[I, S, N, H]; softmax is float32 under autocast too."""
        return x.astype(jnp.float32).reshape(*x.shape[:-1], self.num_heads, -1)


class Mlp(nnx.Module):
    """Two linear layers, and the norm of their sum with the input; parameters stacked."""

    def __init__(self, config: QFormerConfig, stack: Stack, *, rngs: nnx.Rngs):
        self.fc_1 = BiasedLinear(config.width, config.mlp, stack=stack, rngs=rngs)
        self.fc_2 = BiasedLinear(config.mlp, config.width, stack=stack, rngs=rngs)
        self.norm = LayerNorm(config.width, config.eps, stack=stack)

    def __call__(self, x: jax.Array) -> jax.Array:
        """float[I, Q, D] -> float[I, Q, D]."""
        inner = self.fc_1(x.astype(self.fc_1.kernel[...].dtype))
        return self.norm(x + self.fc_2(exact_gelu(inner)))


class Pair(nnx.Module):
    """An even layer, which looks at the image, and the odd one behind it; parameters stacked [L / 2, ...]."""

    def __init__(self, config: QFormerConfig, image_width: int, *, rngs: nnx.Rngs):
        stack = (config.num_layers // 2,)
        self.attention_1 = Attention(config, config.width, stack, rngs=rngs)
        self.image_attention = Attention(config, image_width, stack, rngs=rngs)
        self.mlp_1 = Mlp(config, stack, rngs=rngs)
        self.attention_2 = Attention(config, config.width, stack, rngs=rngs)
        self.mlp_2 = Mlp(config, stack, rngs=rngs)

    def __call__(self, x: jax.Array, image: jax.Array) -> jax.Array:
        """Queries float[I, Q, D], image tokens float[I, S, D_v] -> float[I, Q, D]."""
        x = self.mlp_1(self.image_attention(self.attention_1(x, x), image))
        return self.mlp_2(self.attention_2(x, x))


class QFormer(nnx.Module):
    """Learned queries that gather what they look for in an image."""

    def __init__(self, config: QFormerConfig, image_width: int, *, rngs: nnx.Rngs):
        queries = jax.random.normal(rngs.params(), (1, config.num_queries, config.width))
        self.queries = nnx.Param(0.02 * queries)
        self.norm = LayerNorm(config.width, config.eps)
        self.pairs = Pair(config, image_width, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Image tokens float[I, S, D_v] -> float[I, Q, D]."""
        queries = self.norm(self.queries[...])
        x = jnp.broadcast_to(queries, (len(image), *queries.shape[1:]))
        x, _ = jax.lax.scan(lambda x, pair: (gathered(pair)(x, image), None), x, self.pairs)
        return x
