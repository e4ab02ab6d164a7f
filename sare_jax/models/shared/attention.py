"""Causal attention by the fastest exact way that the target has."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from sare_jax.models.shared.target import Target

Implementation = Literal["cudnn", "xla"]

# Queries that a CPU takes at a time: longer pieces compute more of what the mask drops, shorter ones leave
# its matrix products too small.
_PIECE = 192
# What a `jax.checkpoint` policy may call the results that the gradient needs again.
ATTENDED = "attended"
_MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
_FLASH_DTYPES = (jnp.bfloat16, jnp.float16)


def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array, target: Target) -> jax.Array:
    """softmax(q kᵀ / √H) v, each token seeing itself and those before; differentiable.

    Scores and softmax are float32, whatever the inputs. On a GPU with 16-bit inputs it is cuDNN's flash
    attention, which keeps no [T, T] array. On a CPU queries are taken in pieces and each piece meets its own
    past alone, which halves the work; the gradient computes the scores again rather than keeping them, which
    is faster there than reading them back. Elsewhere it is `jax.nn.dot_product_attention`.

    Args:
      q: float[B, T, N, H].
      k: float[B, S, K, H], K a divisor of N and S at least T; the queries are the last T of the S tokens.
      v: float[B, S, K, H].
      target: what the program is lowered for.

    Returns:
      float[B, T, N, H] in the dtype of `q`.
    """
    if target.is_cpu:
        return _in_pieces(q, k, v)
    flash = target.has_flash and q.dtype in _FLASH_DTYPES and q.shape[-1] <= 128 and q.shape[-1] % 8 == 0
    # These kernels align the first query with the first key.
    ahead = k.shape[1] - q.shape[1]
    padded = jnp.pad(q, ((0, 0), (ahead, 0), (0, 0), (0, 0)))
    return kernel_attention(padded, k, v, "cudnn" if flash else "xla")[:, ahead:]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def kernel_attention(q: jax.Array, k: jax.Array, v: jax.Array, implementation: Implementation) -> jax.Array:
    """`jax.nn.dot_product_attention`, causal, that can be pulled back for several gradients at a time.

    Under `jax.vmap` cuDNN's gradient wants all of its arguments batched, where only the gradients are.
    """
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)


def _kernel_forward(q: jax.Array, k: jax.Array, v: jax.Array, implementation: Implementation) -> tuple:
    return jax.vjp(lambda *qkv: kernel_attention.fun(*qkv, implementation), q, k, v)


def _kernel_backward(
    implementation: Implementation, pull: jax.tree_util.Partial, cotangent: jax.Array
) -> tuple:
    del implementation
    return _pull(pull, cotangent)


kernel_attention.defvjp(_kernel_forward, _kernel_backward)


@jax.custom_batching.sequential_vmap
def _pull(pull: jax.tree_util.Partial, cotangent: jax.Array) -> tuple:
    return pull(cotangent)


def behind(
    past: tuple[jax.Array, jax.Array] | None, k: jax.Array, v: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Keys and values of rows, float[B, T, K, H], behind the past that they share."""
    if past is None:
        return k, v
    keys, values = (
        jnp.concatenate([jnp.broadcast_to(old, (new.shape[0], *old.shape[1:])), new], axis=1)
        for old, new in zip(past, (k, v), strict=True)
    )
    return keys, values


def attention_at(q: jax.Array, k: jax.Array, v: jax.Array, positions: jax.Array) -> jax.Array:
    """As `causal_attention`, for queries of a few tokens.

    Args:
      q: float[B, W, N, H].
      k: float[B, S, K, H].
      v: float[B, S, K, H].
      positions: int32[B, W], which of the S tokens the queries are.

    Returns:
      float[B, W, N, H].
    """
    visible = jnp.arange(k.shape[1]) <= positions[..., None]
    return jax.nn.dot_product_attention(q, k, v, mask=visible[:, None])


def _in_pieces(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    batch, length, _, size = q.shape
    # [B K, G, T, H] queries and [B K, S, H] keys: a head's queries and keys are one matrix each.
    matrices = batch * k.shape[2]
    grouped = q.reshape(batch, length, k.shape[2], -1, size).transpose(0, 2, 3, 1, 4)
    grouped = grouped.reshape(matrices, -1, length, size)
    k, v = (x.swapaxes(1, 2).reshape(matrices, -1, size) for x in (k, v))
    out = _pieces(grouped, k, v).astype(q.dtype)
    return out.reshape(batch, -1, length, size).swapaxes(1, 2)


@jax.custom_vjp
def _pieces(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """float32[M, G, T, H] of queries over keys and values float[M, S, H]."""
    return _pieces_forward(q, k, v)[0]


def _pieces_forward(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, tuple]:
    parts = []
    for start, end, past in _bounds(q, k):
        scores = _scores(q, k, start, end, past)
        peak = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - peak)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        attended = _product("mts,msh->mth", weights.astype(v.dtype), v[:, :past]) / total
        parts.append((_unfold(attended, q), _unfold(peak + jnp.log(total), q)))
    out, logs = (
        checkpoint_name(jnp.concatenate(columns, axis=2), ATTENDED) for columns in zip(*parts, strict=True)
    )
    return out, (q, k, v, out, logs)


def _pieces_backward(kept: tuple, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradient of FlashAttention (Dao et al. 2022), from the logarithms of the softmax's sums."""
    q, k, v, out, logs = kept
    inner = jnp.sum(cotangent * out, axis=-1, keepdims=True)
    cotangent = cotangent.astype(v.dtype)
    to_q, to_k, to_v = [], jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    for start, end, past in _bounds(q, k):
        queries, coming, log, part = (_fold(x[:, :, start:end]) for x in (q, cotangent, logs, inner))
        weights = jnp.exp(_scores(q, k, start, end, past) - log)
        slopes = _product("mth,msh->mts", coming, v[:, :past]) - part
        slopes = (weights * slopes * q.shape[-1] ** -0.5).astype(q.dtype)
        to_q.append(_unfold(_product("mts,msh->mth", slopes, k[:, :past]), q))
        to_k = to_k.at[:, :past].add(_product("mts,mth->msh", slopes, queries))
        to_v = to_v.at[:, :past].add(_product("mts,mth->msh", weights.astype(v.dtype), coming))
    return jnp.concatenate(to_q, axis=2).astype(q.dtype), to_k.astype(k.dtype), to_v.astype(v.dtype)


_pieces.defvjp(_pieces_forward, _pieces_backward)


def _bounds(q: jax.Array, k: jax.Array) -> list[tuple[int, int, int]]:
    """First query, the one after the last, and number of keys of each piece."""
    length, ahead = q.shape[2], k.shape[1] - q.shape[2]
    width = -(-length // -(-length // _PIECE))
    starts = range(0, length, width)
    return [(start, min(start + width, length), ahead + min(start + width, length)) for start in starts]


def _scores(q: jax.Array, k: jax.Array, start: int, end: int, past: int) -> jax.Array:
    """float32[M, G T, S], masked, of a piece: its last query is the last of its keys' tokens."""
    visible = jnp.arange(past) <= jnp.arange(past - (end - start), past)[:, None]
    scores = _product("mth,msh->mts", _fold(q[:, :, start:end]), k[:, :past]) * q.shape[-1] ** -0.5
    return jnp.where(jnp.tile(visible, (q.shape[1], 1)), scores, _MASKED)


def _fold(x: jax.Array) -> jax.Array:
    """[M, G, T, H] -> [M, G T, H], one matrix for all queries of a key-value head."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _unfold(x: jax.Array, like: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], like.shape[1], -1, x.shape[-1])


def _product(letters: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(letters, x, y, preferred_element_type=jnp.float32)
