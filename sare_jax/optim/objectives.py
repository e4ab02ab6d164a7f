"""Losses of a unit from the log-probabilities of its target tokens."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

UnitLoss = Callable[[jax.Array, jax.Array], jax.Array]

# −log(1 − P) treats P as at most e^−δ. Above float32's spacing at 1, so that 1 − P is never rounded to 0.
_DELTA = 1e-6


def token_mean_nll(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    r"""Token-mean negative log-likelihood, :math:`L_{ft} = -\frac{1}{|y|}\sum_t \log p(y_t)`.

    Args:
      log_probs: float32[..., W], log-probability of each target token.
      mask: bool[..., W], which of them count.

    Returns:
      float32[...]; 0 where no token counts.
    """
    return -_log_likelihood(log_probs, mask) / jnp.maximum(jnp.sum(mask, -1), 1)


def ascent(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    r"""Gradient ascent, :math:`L_{neg} = -L_{ft}` (SARE and EFUF).

    Unbounded below: the gradient with respect to :math:`\log p` is the same everywhere, and that with respect
    to the logits even grows to 1 as :math:`P \to 0` while it vanishes as :math:`P \to 1`. So it does not stop
    by itself, and hardly starts on what is nearly certain.

    Args and returns as in `token_mean_nll`.
    """
    return -token_mean_nll(log_probs, mask)


def unlikelihood(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    r"""Sequence unlikelihood, :math:`L_{neg} = -\log(1 - P)` with :math:`P = \prod_t p(y_t)`.

    The slope in :math:`\log P` is :math:`P / (1 - P)`. As :math:`P \to 0` the loss and its slope vanish like
    :math:`P`: the objective stops by itself. As :math:`P \to 1` the slope grows; with respect to the logits
    it stays bounded, since :math:`\log P` flattens at the same rate. Value and slope are finite at
    :math:`P = 1` too, where :math:`P` is taken as :math:`e^{-10^{-6}}`: 13.8 and a million.

    Args and returns as in `token_mean_nll`; 0 where no token counts.
    """
    # Without tokens P would be 1.
    some = jnp.any(mask, -1)
    log_likelihood = jnp.where(some, _log_likelihood(log_probs, mask), -jnp.inf)
    return -jax.nn.log1mexp(_DELTA - log_likelihood)


ERASING: dict[str, UnitLoss] = {"ascent": ascent, "unlikelihood": unlikelihood}


def _log_likelihood(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, log_probs, 0), -1)
