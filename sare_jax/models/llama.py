"""LLaMA: RMSNorm, rotary positions (rotate-half), grouped-query attention, SwiGLU."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.config import TextConfig
from sare_jax.models.layers import Linear, RMSNorm, gathered


class Cache(NamedTuple):
    """Keys and values of the tokens seen so far.

    A row's prompt fills its first slots; the tokens generated later go, for all rows alike, into the slots
    behind the longest prompt, one slot a step. So a step writes one slice, and a row's padding is never seen.
    Slots lie inside heads, so that a step's products run over contiguous memory: twice as fast on a CPU as
    [L, B, S, K, H].

    Attributes:
      keys: float[L, B, K, S, H], rotated.
      values: float[L, B, K, S, H].
      filled: bool[B, S], the slots that a query of this row may see.
      next_slot: int32[], the slot that the next token fills.
    """

    keys: jax.Array
    values: jax.Array
    filled: jax.Array
    next_slot: jax.Array


class DecoderLayer(nnx.Module):
    """One block; parameters stacked [L, ...]."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        width, stack = config.width, (config.num_layers,)
        queries = config.num_heads * config.head_size
        keys = config.num_kv_heads * config.head_size
        self.attention_norm = RMSNorm(width, config.eps, stack=stack)
        self.q = Linear(width, queries, stack=stack, rngs=rngs)
        self.k = Linear(width, keys, stack=stack, rngs=rngs)
        self.v = Linear(width, keys, stack=stack, rngs=rngs)
        self.out = Linear(queries, width, stack=stack, rngs=rngs)
        self.mlp_norm = RMSNorm(width, config.eps, stack=stack)
        self.gate = Linear(width, config.mlp, stack=stack, rngs=rngs)
        self.up = Linear(width, config.mlp, stack=stack, rngs=rngs)
        self.down = Linear(config.mlp, width, stack=stack, rngs=rngs)
        self.head_size = config.head_size

    def __call__(self, x: jax.Array, turns: tuple[jax.Array, jax.Array]) -> jax.Array:
        """One layer over whole rows, each token seeing itself and those before.

        Args:
          x: float[B, T, D].
          turns: cosine and sine of the positions, from `rotary`.
        """
        q, k, v = self._project(x, turns)
        return self._finish(x, jax.nn.dot_product_attention(q, k, v, is_causal=True))

    def prefill(
        self, x: jax.Array, turns: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As `__call__`, and the layer's keys and values float[B, T, K, H]."""
        q, k, v = self._project(x, turns)
        return self._finish(x, jax.nn.dot_product_attention(q, k, v, is_causal=True)), k, v

    def decode(
        self, x: jax.Array, turns: tuple[jax.Array, jax.Array], layer: jax.Array, cache: Cache
    ) -> tuple[jax.Array, Cache]:
        """One layer for one new token a row, float[B, 1, D]; its key and value go into the cache."""
        q, k, v = self._project(x, turns)
        cache = _store(cache, layer, cache.next_slot, k, v)
        keys = jax.lax.dynamic_index_in_dim(cache.keys, layer, keepdims=False)
        values = jax.lax.dynamic_index_in_dim(cache.values, layer, keepdims=False)
        q = q.reshape(x.shape[0], keys.shape[1], -1, self.head_size) * self.head_size**-0.5
        scores = jnp.einsum("BKGH,BKSH->BKGS", q, keys, preferred_element_type=jnp.float32)
        scores = jnp.where(cache.filled[:, None, None], scores, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        return self._finish(x, jnp.einsum("BKGS,BKSH->BKGH", weights, values)), cache

    def _project(
        self, x: jax.Array, turns: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = self.attention_norm(x)
        heads = (*x.shape[:-1], -1, self.head_size)
        q, k, v = (project(x).reshape(heads) for project in (self.q, self.k, self.v))
        return _turn(q, turns), _turn(k, turns), v

    def _finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        x = x + self.out(attended.reshape(*x.shape[:-1], -1))
        normal = self.mlp_norm(x)
        return x + self.down(jax.nn.silu(self.gate(normal)) * self.up(normal))


class Llama(nnx.Module):
    """The decoder between the embedding table and the head, final norm included."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        self.layers = DecoderLayer(config, rngs=rngs)
        self.norm = RMSNorm(config.width, config.eps)
        self.config = config

    def __call__(self, x: jax.Array, remat_policy: Callable[..., bool] | None = None) -> jax.Array:
        """float[B, T, D] embeddings -> float[B, T, D] hidden states; positions count from 0 in each row.

        Right padding needs no mask: a token sees only those before it, so nothing depends on the padding.

        Args:
          x: embeddings.
          remat_policy: what `jax.checkpoint` may keep of a layer for the backward pass, for instance
            `jax.checkpoint_policies.dots_with_no_batch_dims_saveable`; None keeps everything.
        """
        turns = self._turns(jnp.arange(x.shape[1])[None])

        def run(x: jax.Array, layer: DecoderLayer) -> tuple[jax.Array, None]:
            return gathered(layer)(x, turns), None

        if remat_policy is not None:
            # The loop already keeps XLA from merging the second computation with the first.
            run = jax.checkpoint(run, policy=remat_policy, prevent_cse=False)
        x, _ = jax.lax.scan(run, x, self.layers)
        return self.norm(x)

    def prefill(self, x: jax.Array, lengths: jax.Array, cache_len: int) -> tuple[jax.Array, Cache]:
        """Runs the prompts and fills a cache.

        Args:
          x: float[B, T, D], embeddings, right-padded.
          lengths: int32[B], tokens of each row.
          cache_len: S, at least T plus the tokens to come.

        Returns:
          The last token's hidden state of each row, float[B, D], and the cache.
        """
        batch, width = x.shape[0], x.shape[1]
        turns = self._turns(jnp.arange(width)[None])
        config = self.config
        shape = (config.num_layers, batch, config.num_kv_heads, cache_len, config.head_size)
        filled = jnp.arange(cache_len)[None] < lengths[:, None]
        cache = Cache(jnp.zeros(shape, x.dtype), jnp.zeros(shape, x.dtype), filled, jnp.int32(width))

        # The cache is carried, not collected: a scan that stacks its outputs would copy it once more.
        def run(carry, layer):
            x, index, cache = carry
            x, k, v = gathered(layer).prefill(x, turns)
            return (x, index + 1, _store(cache, index, 0, k, v)), None

        (x, _, cache), _ = jax.lax.scan(run, (x, jnp.int32(0), cache), self.layers)
        last = jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)[:, 0]
        return self.norm(last), cache

    def decode(self, x: jax.Array, positions: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Runs one further token of each row.

        Args:
          x: float[B, D], its embedding.
          positions: int32[B], its place in the row, counted without padding.
          cache: of the tokens before.

        Returns:
          float[B, D] hidden state, and the cache with this token in it.
        """
        turns = self._turns(positions[:, None])
        seen = jax.lax.dynamic_update_slice(
            cache.filled, jnp.ones((x.shape[0], 1), bool), (jnp.int32(0), cache.next_slot)
        )
        cache = cache._replace(filled=seen)

        def run(carry, layer):
            x, index, cache = carry
            x, cache = gathered(layer).decode(x, turns, index, cache)
            return (x, index + 1, cache), None

        (x, _, cache), _ = jax.lax.scan(run, (x[:, None], jnp.int32(0), cache), self.layers)
        return self.norm(x[:, 0]), cache._replace(next_slot=cache.next_slot + 1)

    def _turns(self, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        return rotary(positions, self.config.head_size, self.config.rope_theta)


def rotary(positions: jax.Array, head_size: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of rotary positions, float32[B, T, 1, H / 2], for positions int32[B, T] (RoFormer)."""
    frequencies = theta ** (-jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size)
    angles = positions[:, :, None, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def _turn(x: jax.Array, turns: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates float[B, T, N, H]; element i of a head turns with element i + H/2 (rotate-half)."""
    cosine, sine = turns
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x.dtype)


def _store(cache: Cache, layer: jax.Array, slot: jax.Array | int, k: jax.Array, v: jax.Array) -> Cache:
    """Writes float[B, T, K, H] keys and values of one layer, from `slot` on, in place."""
    start = (layer, 0, 0, slot, 0)
    return cache._replace(
        keys=jax.lax.dynamic_update_slice(cache.keys, k.swapaxes(1, 2)[None], start),
        values=jax.lax.dynamic_update_slice(cache.values, v.swapaxes(1, 2)[None], start),
    )
