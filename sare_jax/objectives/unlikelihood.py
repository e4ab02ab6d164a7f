"""Sequence unlikelihood, which stops by itself."""

import jax
import jax.numpy as jnp

from sare_jax.objectives import Objective
from sare_jax.objectives.likelihood import log_likelihood

# −log(1 − P) treats P as at most e^−δ. Above float32's spacing at 1, so that 1 − P is never rounded to 0.
_DELTA = 1e-6


def unlikelihood() -> Objective:
    """L_neg = −log(1 − P(cur(o))), and the token-mean L_ft for retention."""
    return Objective(unlikelihood_loss)


def unlikelihood_loss(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    r"""Sequence unlikelihood, :math:`L_{neg} = -\log(1 - P)`.

    The slope in :math:`\ell` is :math:`P / (1 - P)`. As :math:`P \to 0` the loss and its slope vanish like
    :math:`P`: the objective stops by itself. As :math:`P \to 1` the slope grows as fast as
    :math:`\nabla \ell` vanishes, so that the gradient with respect to the logits stays of order 1. Value and
    slope are finite at :math:`P = 1` too, since :math:`P` is taken as at most :math:`e^{-10^{-6}}`, below
    float32's resolution of a log-probability: 13.8 and a million; the gradient fades beyond that.

    :math:`\log(1 - e^\ell)` is formed from :math:`\ell` without forming :math:`1 - P`, so nothing cancels.

    Args:
      log_probs: float32[..., W], log-probability of each target token.
      mask: bool[..., W], which of them count.

    Returns:
      float32[...]; 0 where no token counts.
    """
    # Without tokens P would be 1.
    some = jnp.any(mask, -1)
    return -jax.nn.log1mexp(_DELTA - jnp.where(some, log_likelihood(log_probs, mask), -jnp.inf))
