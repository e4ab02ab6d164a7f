"""Negative preference optimisation."""

import functools

import jax
import jax.numpy as jnp

from sare_jax.objectives import Objective
from sare_jax.objectives.likelihood import log_likelihood
from sare_jax.objectives.needs import UnitLikelihoods


def npo(beta: float = 0.1) -> Objective:
    """L_neg is `npo_loss`, and retention by the token-mean L_ft.

    Args:
      beta: inverse temperature β > 0.

    Raises:
      ValueError: β is not above 0.
    """
    if beta <= 0:
        raise ValueError(f"beta: must be above 0, got {beta}")
    return Objective(functools.partial(npo_loss, beta=beta), needs=(UnitLikelihoods(),))


def npo_loss(log_probs: jax.Array, mask: jax.Array, reference: jax.Array, *, beta: float = 0.1) -> jax.Array:
    r"""Negative preference optimisation against the starting weights (Zhang et al. 2024).

    .. math:: L_{neg} = -\tfrac{2}{\beta} \log \sigma(-\beta (\ell - \ell_{ref}))

    The slope in :math:`\ell` is :math:`2 \sigma(\beta (\ell - \ell_{ref}))`: 1 at the starting weights, as in
    ascent on the sum. As :math:`P \to 0` loss and slope vanish like :math:`(P / P_{ref})^\beta`: it stops by
    itself, later the smaller :math:`\beta` is. As :math:`P \to 1` the slope is at most 2 and the gradient
    with respect to the logits vanishes with :math:`\nabla \ell`, as in ascent. The loss is bounded below by
    0, and grows like :math:`2 (\ell - \ell_{ref})` at most, so it is finite at both ends.

    Args:
      log_probs: float32[..., W], log-probability of each target token.
      mask: bool[..., W], which of them count.
      reference: float32[...], `log_likelihood` of the same unit under the starting weights.
      beta: inverse temperature :math:`\beta > 0`.

    Returns:
      float32[...]; 0 where no token counts.
    """
    margin = beta * (log_likelihood(log_probs, mask) - jax.lax.stop_gradient(reference))
    # Not `softplus(margin)` masked afterwards: a padded unit's reference may be anything.
    return (2 / beta) * jax.nn.softplus(jnp.where(jnp.any(mask, -1), margin, -jnp.inf))
