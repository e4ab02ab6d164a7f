r"""Simple preference optimisation: the caption without its hallucination is preferred."""

import functools

import jax
import jax.numpy as jnp

from sare_jax.objectives import Objective
from sare_jax.objectives.likelihood import token_mean_nll
from sare_jax.objectives.needs import PreferredContinuations


def simpo(beta: float = 2.0, margin: float = 1.0) -> Objective:
    """L_neg is `simpo_loss`, and retention by the token-mean L_ft.

    Args:
      beta: scale β > 0 of the difference.
      margin: γ ≥ 0, by which the preferred is to be ahead.

    Raises:
      ValueError: a value is out of range.
    """
    if beta <= 0:
        raise ValueError(f"beta: must be above 0, got {beta}")
    if margin < 0:
        raise ValueError(f"margin: must not be negative, got {margin}")
    loss = functools.partial(simpo_loss, beta=beta, margin=margin)
    return Objective(loss, needs=(PreferredContinuations(),))


def simpo_loss(
    log_probs: jax.Array,
    mask: jax.Array,
    preferred: tuple[jax.Array, jax.Array],
    *,
    beta: float = 2.0,
    margin: float = 1.0,
) -> jax.Array:
    r"""SimPO (Meng et al. 2024), which has no reference and compares means over tokens.

    .. math:: L_{neg} = -\log \sigma(\beta (L_{ft} - L_{ft}^{preferred}) - \gamma)

    with :math:`L_{ft}` of the hallucination and of the preferred continuation of the same context.

    Args:
      log_probs: float32[..., W], log-probability of each target token.
      mask: bool[..., W], which of them count.
      preferred: log-probabilities and mask of the preferred continuation's tokens, [..., W'].
      beta: :math:`\beta > 0`, scale of the difference.
      margin: :math:`\gamma \ge 0`, by which the preferred one is to be ahead.

    Returns:
      float32[...]; 0 where no token counts.
    """
    ahead = beta * (token_mean_nll(log_probs, mask) - token_mean_nll(*preferred)) - margin
    # Masked before, not afterwards: a padded row's preferred continuation may be anything.
    return jax.nn.softplus(-jnp.where(jnp.any(mask, -1), ahead, jnp.inf))
