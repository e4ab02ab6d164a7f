"""Drawing tokens: temperature, top-k and top-p, each row by its own seed."""

import jax
import jax.numpy as jnp

from sare_jax.settings import DecodingConfig


def draw(logits: jax.Array, decoding: DecodingConfig, numbers: jax.Array, step: jax.Array) -> jax.Array:
    """One token a row.

    A row's draw rests on the seed, its number and the step alone: neither on its place in the batch nor on
    the rows beside it.

    Args:
      logits: float32[B, V].
      decoding: its temperature is above 0.
      numbers: int32[B], of the requests.
      step: int32[], tokens generated before.

    Returns:
      int32[B].
    """
    seed = jax.random.key(decoding.seed)
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.fold_in(seed, number), step))(numbers)
    narrowed = narrow(logits, decoding)
    return jax.vmap(jax.random.categorical)(keys, narrowed).astype(jnp.int32)


def narrow(logits: jax.Array, decoding: DecodingConfig) -> jax.Array:
    """Logits of the distribution that is drawn from; -inf where a token is out.

    Temperature first, then top-k, then top-p on what top-k left, as in transformers. Tokens as likely as the
    last one kept are kept too.

    Args:
      logits: float32[B, V].
      decoding: `top_k` 0 and `top_p` 1 leave everything in.
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
