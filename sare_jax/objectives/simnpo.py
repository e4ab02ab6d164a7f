"""Simple negative preference optimisation: NPO by the mean over tokens, without a reference."""

import functools

import jax
import jax.numpy as jnp

from sare_jax.objectives import Objective
from sare_jax.objectives.likelihood import token_mean_nll


def simnpo(beta: float = 4.5, margin: float = 0.0) -> Objective:
    """L_neg is `simnpo_loss`, and retention by the token-mean L_ft.

    Args:
      beta: inverse temperature β > 0.
      margin: δ ≥ 0, nats a token by which the unit is to be unlikely.

    Raises:
      ValueError: a value is out of range.
    """
    if beta <= 0:
        raise ValueError(f"beta: must be above 0, got {beta}")
    if margin < 0:
        raise ValueError(f"margin: must not be negative, got {margin}")
    return Objective(functools.partial(simnpo_loss, beta=beta, margin=margin))


def simnpo_loss(
    log_probs: jax.Array, mask: jax.Array, *, beta: float = 4.5, margin: float = 0.0
) -> jax.Array:
    r"""SimNPO (Fan et al. 2024), as open-unlearning has it.

    .. math:: L_{neg} = -\tfrac{2}{\beta} \log \sigma(\beta (L_{ft} - \delta))

    The slope in :math:`L_{ft}` is :math:`-2 \sigma(-\beta (L_{ft} - \delta))`: at most 2, as in ascent on
    twice the mean, and vanishing where the unit's tokens are already unlikely. Long units weigh no more than
    short ones, and a unit that was unlikely before training is let be.

    Args:
      log_probs: float32[..., W], log-probability of each target token.
      mask: bool[..., W], which of them count.
      beta: inverse temperature :math:`\beta > 0`.
      margin: :math:`\delta \ge 0`, in nats a token.

    Returns:
      float32[...]; 0 where no token counts.
    """
    unlikely = beta * (token_mean_nll(log_probs, mask) - margin)
    # Masked before: without tokens the mean is 0, whose loss would not be.
    return (2 / beta) * jax.nn.softplus(-jnp.where(jnp.any(mask, -1), unlikely, jnp.inf))
