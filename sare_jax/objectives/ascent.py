"""Gradient ascent, the objective of SARE and EFUF."""

import functools

import jax

from sare_jax.objectives import Objective
from sare_jax.objectives.likelihood import Reduction, nll
from sare_jax.objectives.needs import PaddedLength


def ascent(reduction: Reduction = "token_mean") -> Objective:
    """L_neg = −L_ft, and L_ft for retention.

    Args:
      reduction: what L_ft of a unit is divided by (`sare_jax.objectives.likelihood.nll`): its tokens, or as
        EFUF does for MiniGPT-4 the padded length − 1, or for mPLUG-Owl 512.
    """
    needs = (PaddedLength(),) if reduction == "seq_mean_padded" else ()
    return Objective(
        functools.partial(ascent_loss, reduction=reduction),
        functools.partial(nll, reduction=reduction),
        needs,
    )


def ascent_loss(
    log_probs: jax.Array, mask: jax.Array, *, reduction: Reduction = "token_mean", length: int | None = None
) -> jax.Array:
    r"""Gradient ascent, :math:`L_{neg} = -L_{ft}` (SARE, Eq. 4, and EFUF).

    Its slope in :math:`\ell` is :math:`1/n` everywhere, and it is unbounded below. As :math:`P \to 0` the
    gradient with respect to the logits grows to its greatest, so it does not stop by itself; as
    :math:`P \to 1` it vanishes, so it hardly starts on what is nearly certain.

    Args and returns as in `nll`.
    """
    return -nll(log_probs, mask, reduction=reduction, length=length)
