"""An objective from outside that needs what it was: whole distributions of the starting weights."""

import functools

import jax
import jax.numpy as jnp

from sare_jax.objectives import Objective
from sare_jax.objectives.likelihood import token_mean_nll
from sare_jax.objectives.needs import TokenDistributions


def flatten(strength: float = 1.0, top: int = 16) -> Objective:
    """Makes the negatives' next-token distributions as flat as may be, and keeps the others' as they were."""
    needs = (TokenDistributions(top, sets=("neg", "pos", "sent")),)
    return Objective(functools.partial(_negentropy, strength=strength), _forward_kl, needs)


def _negentropy(
    log_probs: jax.Array, mask: jax.Array, distributions: tuple[jax.Array, jax.Array], *, strength: float
) -> jax.Array:
    _, current = distributions
    return strength * _mean(jnp.sum(jnp.exp(current) * current, -1), mask)


def _forward_kl(
    log_probs: jax.Array, mask: jax.Array, distributions: tuple[jax.Array, jax.Array]
) -> jax.Array:
    reference, current = distributions
    return token_mean_nll(log_probs, mask) + _mean(
        jnp.sum(jnp.exp(reference) * (reference - current), -1), mask
    )


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, values, 0), -1) / jnp.maximum(jnp.sum(mask, -1), 1)
