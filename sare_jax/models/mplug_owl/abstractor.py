"""mPLUG-Owl's visual abstractor: learned queries look at the tower's tokens and become image embeddings."""

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.mplug_owl.config import OwlConfig
from sare_jax.models.shared.layers import BiasedLinear, LayerNorm

# Trainable weights are float32 and an update is small beside them, so products keep float32's precision even
# where the device's default is lower.
_EXACT = jax.lax.Precision.HIGHEST
_EPS = 1e-5  # of the layers' own norms, whatever config.json says


class AbstractorLayer(nnx.Module):
    """Cross-attention and a SwiGLU; parameters stacked [L, ...]."""

    def __init__(self, config: OwlConfig, *, rngs: nnx.Rngs):
        own, width, stack = config.abstractor, config.vision.width, (config.abstractor.num_layers,)
        self.query_norm = LayerNorm(width, _EPS, stack=stack)
        self.key_norm = LayerNorm(width, _EPS, stack=stack)
        self.query = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.key = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.value = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.out = BiasedLinear(width, width, stack=stack, rngs=rngs)
        self.mlp_norm = LayerNorm(width, _EPS, stack=stack)
        self.gate = BiasedLinear(width, own.mlp, stack=stack, rngs=rngs)
        self.up = BiasedLinear(width, own.mlp, stack=stack, rngs=rngs)
        self.inner_norm = LayerNorm(own.mlp, own.eps, stack=stack)
        self.down = BiasedLinear(own.mlp, width, stack=stack, rngs=rngs)
        self.num_heads = own.num_heads

    def __call__(self, x: jax.Array, image: jax.Array, factors: jax.Array | None = None) -> jax.Array:
        """Attention from the queries to themselves and to the image, then the MLP.

        The residual of the attention is the normalised query, not the query.

        Args:
          x: float[B, Q, D_v], queries.
          image: float[B, P, D_v], the tower's tokens.
          factors: float[B, N, Q, Q + P], by which attention weights are multiplied; None leaves them.

        Returns:
          float[B, Q, D_v].
        """
        x = self.query_norm(x)
        both = jnp.concatenate([x, self.key_norm(image)], axis=1)
        x = x + self.out(self._attend(x, both, factors), _EXACT)
        normal = self.mlp_norm(x)
        inner = jax.nn.silu(self.gate(normal, _EXACT)) * self.up(normal, _EXACT)
        return x + self.down(self.inner_norm(inner), _EXACT)

    def _attend(self, x: jax.Array, both: jax.Array, factors: jax.Array | None) -> jax.Array:
        q, k, v = (
            part(given, _EXACT).reshape(*given.shape[:2], self.num_heads, -1)
            for part, given in ((self.query, x), (self.key, both), (self.value, both))
        )
        scores = jnp.einsum("BQNH,BSNH->BNQS", q, k, precision=_EXACT) * q.shape[-1] ** -0.5
        weights = jax.nn.softmax(scores, axis=-1)
        if factors is not None:
            weights = weights * factors
        return jnp.einsum("BNQS,BSNH->BQNH", weights, v, precision=_EXACT).reshape(x.shape)


class Abstractor(nnx.Module):
    """All that is tuned: queries, layers, the projection to the language model's width, the end token."""

    def __init__(self, config: OwlConfig, *, rngs: nnx.Rngs):
        width, outer = config.vision.width, config.text.width
        queries = jax.random.normal(rngs.params(), (1, config.abstractor.num_queries, width))
        self.queries = nnx.Param(0.02 * queries)
        self.layers = AbstractorLayer(config, rngs=rngs)
        self.to_text = BiasedLinear(width, outer, rngs=rngs)
        self.end = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 1, outer)))
        self.num_features = config.num_image_features
        self.num_layers, self.num_heads = config.abstractor.num_layers, config.abstractor.num_heads

    def __call__(self, features: jax.Array, keys: jax.Array | None = None, rate: float = 0.0) -> jax.Array:
        """Image features of each row's M images -> their image embeddings.

        Args:
          features: float[..., M · P, D_v], one image behind the other; P is the number of the tower's tokens.
          keys: PRNG keys [...], one a row, by which attention weights are dropped; None drops nothing.
          rate: share of them that is dropped; the others grow so that their mean stays.

        Returns:
          float[..., M · (Q + 1), D] in the abstractor's own dtype; each image's last one is the end token.

        Raises:
          ValueError: the number of features is no multiple of P.
        """
        *rows, count, width = features.shape
        if count % self.num_features:
            raise ValueError(f"{count} image features a row, need {self.num_features} an image")
        queries, end = self.queries[...], self.end[...]
        image = features.astype(queries.dtype).reshape(-1, self.num_features, width)
        x = jnp.broadcast_to(queries, (len(image), *queries.shape[1:]))
        if keys is None:
            x, _ = jax.lax.scan(lambda x, layer: (layer(x, image), None), x, self.layers)
        else:
            every = _each(keys.reshape(-1), jnp.arange(count // self.num_features)).reshape(-1)
            shape = (self.num_heads, x.shape[1], x.shape[1] + self.num_features)

            def run(x: jax.Array, at: tuple[AbstractorLayer, jax.Array]) -> tuple[jax.Array, None]:
                layer, number = at
                own = _each(every, number[None])[:, 0]
                kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(own)
                return layer(x, image, kept / (1 - rate)), None

            x, _ = jax.lax.scan(run, x, (self.layers, jnp.arange(self.num_layers)))
        x = self.to_text(x, _EXACT)
        x = jnp.concatenate([x, jnp.broadcast_to(end, (len(x), *end.shape[1:]))], axis=1)
        return x.reshape(*rows, -1, x.shape[-1])


def _each(keys: jax.Array, numbers: jax.Array) -> jax.Array:
    """PRNG keys [K], int32[N] -> keys [K, N], one for each pair."""
    return jax.vmap(lambda key: jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers))(keys)
