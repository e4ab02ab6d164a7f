r"""Losses of a unit from the log-probabilities of its target tokens.

All of them take log-probabilities and a mask of tokens, whose last axes are those of the tokens and whose
others broadcast. So one function serves a unit a row, `log_probs[B, W]` and `mask[B, W]`, and several units
in one row, `log_probs[B, 1, T]` and `mask[B, U, T]`.

With :math:`\ell = \log P(y) = \sum_t \log p(y_t)`, the gradient of each loss is its slope in :math:`\ell`
times :math:`\nabla \ell`, and the gradient of :math:`\ell` with respect to the logits vanishes as
:math:`P \to 1` and is of order 1 as :math:`P \to 0`.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

UnitLoss = Callable[[jax.Array, jax.Array], jax.Array]
Reduction = Literal["token_mean", "seq_mean_padded", "div512"]

# −log(1 − P) treats P as at most e^−δ. Above float32's spacing at 1, so that 1 − P is never rounded to 0.
_DELTA = 1e-6


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


def ascent(
    log_probs: jax.Array, mask: jax.Array, *, reduction: Reduction = "token_mean", length: int | None = None
) -> jax.Array:
    r"""Gradient ascent, :math:`L_{neg} = -L_{ft}` (SARE, Eq. 4, and EFUF).

    Its slope in :math:`\ell` is :math:`1/n` everywhere, and it is unbounded below. As :math:`P \to 0` the
    gradient with respect to the logits grows to its greatest, so it does not stop by itself; as
    :math:`P \to 1` it vanishes, so it hardly starts on what is nearly certain.

    Args and returns as in `nll`.
    """
    return -nll(log_probs, mask, reduction=reduction, length=length)


def unlikelihood(log_probs: jax.Array, mask: jax.Array) -> jax.Array:
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


def npo(log_probs: jax.Array, mask: jax.Array, reference: jax.Array, *, beta: float = 0.1) -> jax.Array:
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
      beta: inverse temperature :math:`\beta > 0`; `functools.partial` over `reference` and `beta` makes a
        unit loss like the others.

    Returns:
      float32[...]; 0 where no token counts.
    """
    margin = beta * (log_likelihood(log_probs, mask) - jax.lax.stop_gradient(reference))
    # Not `softplus(margin)` masked afterwards: a padded unit's reference may be anything.
    return (2 / beta) * jax.nn.softplus(jnp.where(jnp.any(mask, -1), margin, -jnp.inf))


ERASING: dict[str, UnitLoss] = {"ascent": ascent, "unlikelihood": unlikelihood}
