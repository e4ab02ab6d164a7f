"""Direct preference optimisation: the caption without its hallucination is preferred."""

import functools

import jax
import jax.numpy as jnp

from sare_jax.objectives import Objective
from sare_jax.objectives.likelihood import log_likelihood
from sare_jax.objectives.needs import PreferredContinuations, PreferredLikelihoods, UnitLikelihoods


def dpo(beta: float = 0.1) -> Objective:
    """L_neg is `dpo_loss`, and retention by the token-mean L_ft.

    The paper compares with DPO and does not say what is preferred. Here it is the continuation of the same
    caption that leaves the hallucinated piece out (`sare_jax.data.preferred`).

    Args:
      beta: inverse temperature β > 0.

    Raises:
      ValueError: β is not above 0.
    """
    if beta <= 0:
        raise ValueError(f"beta: must be above 0, got {beta}")
    needs = (UnitLikelihoods(), PreferredContinuations(), PreferredLikelihoods())
    return Objective(functools.partial(dpo_loss, beta=beta), needs=needs)


def dpo_loss(
    log_probs: jax.Array,
    mask: jax.Array,
    reference: jax.Array,
    preferred: tuple[jax.Array, jax.Array],
    preferred_reference: jax.Array,
    *,
    beta: float = 0.1,
) -> jax.Array:
    r"""DPO (Rafailov et al. 2023) with the factor 2/β of open-unlearning, so that it is at NPO's scale.

    .. math:: L_{neg} = -\tfrac{2}{\beta} \log \sigma(\beta ((\ell^w - \ell^w_{ref}) - (\ell - \ell_{ref})))

    with :math:`\ell` of the hallucination and :math:`\ell^w` of the preferred continuation of the same
    context. The slopes in :math:`\ell` and :math:`\ell^w` are 1 and −1 at the starting weights, and vanish as
    the preferred one gains on the other.

    Args:
      log_probs: float32[..., W], log-probability of each target token.
      mask: bool[..., W], which of them count.
      reference: float32[...], `log_likelihood` of the unit under the starting weights.
      preferred: log-probabilities and mask of the preferred continuation's tokens, [..., W'].
      preferred_reference: float32[...], `log_likelihood` of the preferred under the starting weights.
      beta: inverse temperature :math:`\beta > 0`.

    Returns:
      float32[...]; 0 where no token counts.
    """
    lost = log_likelihood(log_probs, mask) - jax.lax.stop_gradient(reference)
    gained = log_likelihood(*preferred) - jax.lax.stop_gradient(preferred_reference)
    # Not `softplus` masked afterwards: a padded unit's references may be anything.
    return (2 / beta) * jax.nn.softplus(jnp.where(jnp.any(mask, -1), beta * (lost - gained), -jnp.inf))
