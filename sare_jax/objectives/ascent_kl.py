"""Gradient ascent, with retention that also holds whole distributions where they were."""

import functools

import jax

from sare_jax.objectives import Objective
from sare_jax.objectives.ascent import ascent_loss
from sare_jax.objectives.likelihood import token_kl, token_mean_nll
from sare_jax.objectives.needs import TokenDistributions


def ascent_kl(weight: float = 1.0, top: int = 64) -> Objective:
    r"""L_neg = −L_ft; retention by :math:`L_{ft} + weight \cdot KL(p_{ref} \| p)` (Yao et al. 2023).

    Args:
      weight: factor ≥ 0 of the KL divergence, which is a mean over a unit's tokens, beside L_ft.
      top: number of likeliest tokens, under the starting weights, whose probabilities are compared one by
        one; all others count as one. With vocabulary − 1 the divergence is exact.

    Raises:
      ValueError: a value is out of range.
    """
    if weight < 0:
        raise ValueError(f"weight: must not be negative, got {weight}")
    if top < 1:
        raise ValueError(f"top: must be at least 1, got {top}")
    return Objective(
        ascent_loss,
        functools.partial(retain_loss, weight=weight),
        needs=(TokenDistributions(top),),
    )


def retain_loss(
    log_probs: jax.Array, mask: jax.Array, distributions: tuple[jax.Array, jax.Array], *, weight: float
) -> jax.Array:
    """Token-mean L_ft and `weight` times `token_kl`; float32[...]."""
    return token_mean_nll(log_probs, mask) + weight * token_kl(distributions, mask)
