"""Causal attention over whole rows, by the fastest exact way that the device has."""

import jax
import jax.numpy as jnp

# Queries that a CPU takes at a time: longer pieces compute more of what the mask drops, shorter ones leave
# its matrix products too small.
_PIECE = 192
_MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
_FLASH_DTYPES = (jnp.bfloat16, jnp.float16)


def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q kᵀ / √H) v, each token seeing itself and those before; differentiable.

    Scores and softmax are float32, whatever the inputs. On a GPU with 16-bit inputs it is cuDNN's flash
    attention, which keeps no [T, T] array. On a CPU queries are taken in pieces and each piece meets its own
    past alone, which halves the work. Elsewhere it is `jax.nn.dot_product_attention`.

    Args:
      q: float[B, T, N, H].
      k: float[B, S, K, H], K a divisor of N and S at least T; the queries are the last T of the S tokens.
      v: float[B, S, K, H].

    Returns:
      float[B, T, N, H] in the dtype of `q`.
    """
    backend = jax.default_backend()
    if backend == "cpu":
        return _in_pieces(q, k, v)
    flash = backend == "gpu" and q.dtype in _FLASH_DTYPES and q.shape[-1] <= 128 and q.shape[-1] % 8 == 0
    # These kernels align the first query with the first key.
    ahead = k.shape[1] - q.shape[1]
    padded = jnp.pad(q, ((0, 0), (ahead, 0), (0, 0), (0, 0)))
    attended = jax.nn.dot_product_attention(
        padded, k, v, is_causal=True, implementation="cudnn" if flash else "xla"
    )
    return attended[:, ahead:]


def attention_at(q: jax.Array, k: jax.Array, v: jax.Array, places: jax.Array) -> jax.Array:
    """As `causal_attention`, for queries of a few tokens.

    Args:
      q: float[B, W, N, H].
      k: float[B, S, K, H].
      v: float[B, S, K, H].
      places: int32[B, W], which of the S tokens the queries are.

    Returns:
      float[B, W, N, H].
    """
    visible = jnp.arange(k.shape[1]) <= places[..., None]
    return jax.nn.dot_product_attention(q, k, v, mask=visible[:, None])


def _in_pieces(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    batch, length, heads, size = q.shape
    ahead = k.shape[1] - length
    q = q.reshape(batch, length, k.shape[2], -1, size)
    q, k, v = q.transpose(0, 2, 3, 1, 4), k.swapaxes(1, 2), v.swapaxes(1, 2)
    pieces = -(-length // _PIECE)
    width = -(-length // pieces)
    seen = [
        _attend(
            q[:, :, :, start : start + width],
            k[:, :, : ahead + start + width],
            v[:, :, : ahead + start + width],
        )
        for start in range(0, length, width)
    ]
    return jnp.concatenate(seen, axis=3).transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, size)


def _attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """float[B, K, G, T, H] queries, the last T of the S keys' tokens, over float[B, K, S, H]."""
    scores = jnp.einsum("BKGTH,BKSH->BKGTS", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    count, keys = q.shape[3], k.shape[2]
    visible = jnp.arange(keys) <= jnp.arange(keys - count, keys)[:, None]
    weights = jax.nn.softmax(jnp.where(visible, scores, _MASKED), axis=-1).astype(v.dtype)
    return jnp.einsum("BKGTS,BKSH->BKGTH", weights, v)
