"""The presets of a run: what EFUF's public code does beyond its paper (`sare_jax.objectives.efuf`)."""

import dataclasses
from dataclasses import dataclass

import jax
import numpy as np

from sare_jax.data.batches import SETS, TokenSet, TokenSets
from sare_jax.objectives import efuf
from sare_jax.records.curated import Curated
from sare_jax.training.state import Hyper


@dataclass(frozen=True)
class EfufSchedule:
    """The weights of EFUF's public code over a run.

    Attributes:
      steps: optimizer steps in the whole run.
    """

    steps: int

    def __call__(self, hyper: Hyper, step: jax.Array) -> Hyper:
        """The settings of a step: the weight of L_pos falls to its half; λ₁ stays, and then falls to 0."""
        return hyper._replace(
            pos_weight=hyper.pos_weight * efuf.pos_schedule(self.steps)(step),
            neg_weight=hyper.neg_weight
            * efuf.neg_schedule(self.steps, dataclasses.replace(efuf.EFUF, neg_weight=1.0))(step),
        )


def with_score_weights(sets: TokenSets, curated: Curated) -> TokenSets:
    """The sets, with a `weight` for each unit by its CLIP score, as in EFUF's public code."""
    for kind in SETS:
        units: TokenSet = getattr(sets, kind)
        scores = np.asarray(getattr(curated, kind).score, np.float32)[units.unit]
        weight = np.asarray(efuf.score_weights(kind, scores), np.float32)
        weighed = dataclasses.replace(units, by_unit=units.by_unit | {"weight": weight})
        sets = sets.having(kind, weighed)
    return sets
