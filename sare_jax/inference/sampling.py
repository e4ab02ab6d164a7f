"""Drawing tokens: temperature, top-k and top-p, each row with its own random key."""

import jax
import jax.numpy as jnp

from sare_jax.settings import DecodingConfig


def draw(logits: jax.Array, decoding: DecodingConfig, numbers: jax.Array, step: jax.Array) -> jax.Array:
    """One token a row.

    A row's draw depends on the seed, the number of its request and the step alone: neither on its place in
    the batch nor on the other rows.

    Args:
      logits: float32[B, V], of the next token.
      decoding: seed, temperature (above 0), top-k and top-p.
      numbers: int32[B], number of each row's request.
      step: int32[], tokens generated before.

    Returns:
      int32[B], the drawn tokens.
    """
    seed = jax.random.key(decoding.seed)
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.fold_in(seed, number), step))(numbers)
    narrowed = narrow(logits, decoding)
    return jax.vmap(jax.random.categorical)(keys, narrowed).astype(jnp.int32)


def narrow(logits: jax.Array, decoding: DecodingConfig) -> jax.Array:
    """Logits ÷ temperature, float32[B, V], with -inf for tokens that top-k or top-p exclude.

    First the temperature, then top-k, then top-p on the tokens that top-k kept, as in transformers. Tokens as
    likely as the least likely one that is kept are kept too.

    Args:
      logits: float32[B, V], of the next token.
      decoding: temperature, top-k and top-p; `top_k` 0 and `top_p` 1 exclude nothing.
    """
    logits = logits / decoding.temperature
    if 0 < decoding.top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, decoding.top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if decoding.top_p < 1:
        ascending = jnp.sort(logits, axis=-1)
        below = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1)
        kept = below > 1 - decoding.top_p
        least = jnp.min(jnp.where(kept.at[:, -1].set(True), ascending, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits
