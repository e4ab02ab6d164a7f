"""Relearning on objects of one half of the categories, to be measured on the objects of the other half.

Hallucinations that return on the held-out half were not in the training samples, so the model still held
them. This is the test of retraining on other facts (RTT). The attack's record lists the categories of each
half, and `sare_jax.evaluation.metrics.chair_categories` counts the captions that invent an object of either.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sare_jax.attacks.finetune import finetune, sample_order
from sare_jax.attacks.interface import Attack, Attacked, Tools
from sare_jax.language.halves import categories_named, category_of, halves
from sare_jax.language.words import WordTable
from sare_jax.optim import AdamW
from sare_jax.settings.building import at_least

if TYPE_CHECKING:
    from sare_jax.records.curated import Curated
    from sare_jax.training.state import Params


@dataclass(frozen=True)
class RelearnDisjoint:
    """Which half of the categories is relearnt, and how."""

    half: Literal[0, 1] = 0
    """Index of the half that is trained on; the other is held out."""
    split_seed: int = 0
    """Seed by which the annotations' categories are divided into halves."""
    num_samples: int = 60
    """Units of D_neg to draw from that half; 0 for all. More samples include fewer ones."""
    adamw: AdamW = AdamW(weight_decay=0.0)
    """AdamW's numbers; the learning rate stays constant."""
    batch_size: int = 4
    """Units per step; the attack makes one pass over the drawn units."""
    seed: int = 0
    """Seed of which units are drawn, and in which order."""

    def check(self, where: str) -> None:
        """Refuses sizes out of range."""
        at_least(self.num_samples, 0, f"{where}.num_samples")
        at_least(self.batch_size, 1, f"{where}.batch_size")


def relearn_disjoint(tools: Tools, params: Params, settings: RelearnDisjoint) -> Attacked:
    """Makes one pass over units of D_neg whose object is of one half and whose words name none of the other.

    Args:
      tools: gives D_neg, the frozen weights and the image features; `truth` names the categories.
      params: trainable parameters of the attacked run; copied, not changed.
      settings: half, number of samples, batch size, optimizer and seeds.

    Returns:
      The parameters after the attack, and the record that `finetune` makes with three more keys: `taught` and
      `held_out`, the categories of each half; `units`, the number of units that fit; `left_out`, the number
      of the others by reason.

    Raises:
      UserError: fewer than `num_samples` units fit, or none.
      loop.NotFiniteError: a loss or gradient is not finite.
    """
    from sare_jax.data.batches import tokenize

    annotated = {name for names in tools.truth.instances.values() for name in names}
    both = halves(sorted(annotated), settings.split_seed)
    taught, held_out = both[settings.half], both[1 - settings.half]
    chosen, left_out = units_of(tools.curated, taught, held_out, tools.truth.table)
    units = tokenize(tools.curated, tools.prompter, tools.instruction, kinds=("neg",)).neg
    fitting = np.flatnonzero(np.isin(units.unit, chosen))
    what = f"the half of D_neg about {', '.join(taught)}"
    order = fitting[sample_order(len(fitting), settings.num_samples, settings.seed, what)]
    params, record = finetune(tools, params, units, order, settings)
    sets = {"taught": taught, "held_out": held_out, "units": len(fitting), "left_out": left_out}
    return Attacked(params, sets | record)


def units_of(
    curated: Curated, taught: tuple[str, ...], held_out: tuple[str, ...], table: WordTable
) -> tuple[np.ndarray, dict[str, int]]:
    """Chooses the units of D_neg that teach one half of the categories and nothing of the other.

    Args:
      curated: D_neg and the captions of its rows.
      taught: categories to which a unit's object must belong.
      held_out: categories that no word of a unit may name.
      table: maps words of captions to categories.

    Returns:
      int64[n] indices into D_neg, and reason → number of units left out for it.
    """
    reasons = Counter(dict.fromkeys(("no_category", "object_held_out", "names_held_out"), 0))
    chosen = []
    neg, captions = curated.neg, curated.rows.caption
    for unit, (name, row, start, end) in enumerate(zip(neg.object, neg.row, neg.start, neg.end, strict=True)):
        category = category_of(str(name), table)
        if category in held_out:
            reasons["object_held_out"] += 1
        elif category not in taught:
            reasons["no_category"] += 1
        elif categories_named([str(captions[row])[start:end]], table).intersection(held_out):
            reasons["names_held_out"] += 1
        else:
            chosen.append(unit)
    return np.array(chosen, np.int64), dict(reasons)


ATTACK = Attack(settings=RelearnDisjoint, weights=relearn_disjoint)
