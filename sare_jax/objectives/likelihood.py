r"""Likelihoods of a unit from the log-probabilities of its target tokens, for the objectives.

All of them take log-probabilities and a mask of tokens, whose last axes are those of the tokens and whose
others broadcast. So one function serves a unit a row, `log_probs[B, W]` and `mask[B, W]`, and several units
in one row, `log_probs[B, 1, T]` and `mask[B, U, T]`.

With :math:`\ell = \log P(y) = \sum_t \log p(y_t)`, the gradient of each loss is its slope in :math:`\ell`
times :math:`\nabla \ell`, and the gradient of :math:`\ell` with respect to the logits vanishes as
:math:`P \to 1` and is of order 1 as :math:`P \to 0`.
"""

from typing import Literal

import jax
import jax.numpy as jnp

__all__ = ["Reduction", "kl_by_token", "log_likelihood", "nll", "token_kl", "token_mean", "token_mean_nll"]

Reduction = Literal["token_mean", "seq_mean_padded", "div512"]


def log_likelihood(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    r"""Summed log-likelihood :math:`\ell` of a unit.

    Args:
      log_probs: float32[..., W], log-probability of each target token.
      mask: bool[..., W], which of them count.

    Returns:
      float32[...]; 0 where no token counts. What is not counted may be anything, also NaN.
    """
    return jnp.sum(jnp.where(mask, log_probs, 0), -1)


def nll(
    log_probs: jax.Array, mask: jax.Array, *, reduction: Reduction = "token_mean", length: int | None = None
) -> jax.Array:
    r"""Negative log-likelihood :math:`L_{ft} = -\ell / n` of a unit.

    The divisor :math:`n` is, by `reduction`,

    * `token_mean`: the unit's tokens :math:`|y|`. SARE's, and EFUF's for LLaVA and ShareGPT4V;
    * `seq_mean_padded`: the padded sequence's length − 1, so that a short unit weighs less. EFUF's for
      MiniGPT-4;
    * `div512`: 512. EFUF's for mPLUG-Owl.

    Args:
      log_probs: float32[..., W], log-probability of each target token.
      mask: bool[..., W], which of them count.
      reduction: names the divisor.
      length: tokens of the padded sequence, with `seq_mean_padded` alone.

    Returns:
      float32[...]; 0 where no token counts.

    Raises:
      ValueError: there is no such reduction, or `length` is missing or below 2.
    """
    total = -log_likelihood(log_probs, mask)
    if reduction == "token_mean":
        return total / jnp.maximum(jnp.sum(mask, -1), 1)
    if reduction == "seq_mean_padded":
        if length is None or length < 2:
            raise ValueError(f"nll: seq_mean_padded needs the padded length, at least 2, got {length}")
        return total / (length - 1)
    if reduction == "div512":
        return total / 512
    raise ValueError(f"nll: reduction is token_mean, seq_mean_padded or div512, not {reduction!r}")


def token_mean_nll(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
    r"""Token-mean negative log-likelihood, :math:`L_{ft} = -\frac{1}{|y|}\sum_t \log p(y_t)`; see `nll`."""
    return nll(log_probs, mask)


def token_kl(distributions: tuple[jax.Array, jax.Array], mask: jax.Array) -> jax.Array:
    r"""Mean over a unit's tokens of :math:`KL(p_{ref} \| p)`: how far the next token's distribution moved.

    Args:
      distributions: reference and current log-probabilities, float32[..., W, K]; see
        `sare_jax.objectives.needs.TokenDistributions`.
      mask: bool[..., W], which tokens count.

    Returns:
      float32[...]; 0 where no token counts.
    """
    return token_mean(kl_by_token(distributions), mask)


def token_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of float32[..., W] over the tokens that count by bool[..., W]; 0 where none does."""
    return jnp.sum(jnp.where(mask, values, 0), -1) / jnp.maximum(jnp.sum(mask, -1), 1)


def kl_by_token(distributions: tuple[jax.Array, jax.Array]) -> jax.Array:
    r"""float32[..., W], :math:`KL(p_{ref} \| p)` of each token; see `token_kl`."""
    reference, current = distributions
    probs = jnp.exp(reference)
    return jnp.sum(jnp.where(probs > 0, probs * (reference - current), 0), -1)
