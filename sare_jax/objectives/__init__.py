"""Objectives: what is done to the units of D_neg, D_pos and D_sent. Depends on jax alone.

One file an objective. It has a factory, whose keyword arguments are the objective's settings and which gives
an `Objective`; one line of `OBJECTIVES` gives it a short name. A factory outside of the package is named
`module:name` in the settings and works alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from sare_jax.objectives.likelihood import token_mean_nll
from sare_jax.objectives.needs import Need

__all__ = ["OBJECTIVES", "Need", "Objective", "UnitLoss", "token_mean_nll"]

# log_probs float32[..., W], mask bool[..., W], and a keyword for each need → float32[...], 0 where no token
# counts. The axes before the tokens' broadcast: a unit a row is [B, 1, W] and [B, 1, W], and several units in
# one row are [B, 1, W] and [B, U, W].
UnitLoss = Callable[..., jax.Array]


@dataclass(frozen=True)
class Objective:
    """The losses of a unit, as functions of the log-probabilities and the mask of its target tokens.

    Hashable, so that it can be a static argument of a compiled step. Two objectives are equal only if their
    functions are the same objects: make one and reuse it, or the step is compiled again.

    Attributes:
      erase: loss L_neg of a unit of D_neg.
      retain: loss of a unit of D_pos or D_sent.
      needs: what has to be at hand before training (`sare_jax.objectives.needs`). Each adds a keyword to the
        losses of the sets that it names; without needs a loss is a function of log-probabilities and mask.
    """

    erase: UnitLoss
    retain: UnitLoss = token_mean_nll
    needs: tuple[Need, ...] = ()


OBJECTIVES = {
    "ascent": "sare_jax.objectives.ascent:ascent",
    "unlikelihood": "sare_jax.objectives.unlikelihood:unlikelihood",
    "npo": "sare_jax.objectives.npo:npo",
    "simnpo": "sare_jax.objectives.simnpo:simnpo",
    "dpo": "sare_jax.objectives.dpo:dpo",
    "rmu": "sare_jax.objectives.rmu:rmu",
    "simpo": "sare_jax.objectives.simpo:simpo",
    "ascent_kl": "sare_jax.objectives.ascent_kl:ascent_kl",
    "grounded_choice": "sare_jax.objectives.grounded_choice:grounded_choice",
}
