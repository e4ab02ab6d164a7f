"""The relearning attack: plain fine-tuning on a few of the units that were unlearnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sare_jax.attacks.finetune import finetune, sample_order
from sare_jax.attacks.interface import Attack, Attacked, Tools
from sare_jax.optim import AdamW
from sare_jax.settings.building import at_least

if TYPE_CHECKING:
    from sare_jax.training.state import Params


@dataclass(frozen=True)
class Relearn:
    """How many samples of D_neg are relearnt, and how (protocols 3.3)."""

    num_samples: int = 60
    """Units of D_neg to draw: 60, 100 and 140 in the paper, 0 for all. More samples include fewer ones."""
    adamw: AdamW = AdamW(weight_decay=0.0)
    """AdamW's numbers; the learning rate stays constant."""
    batch_size: int = 4
    """Units per step; the attack makes one pass over the drawn units."""
    seed: int = 0
    """Seed of which units are drawn, and in which order."""

    RENAMED: ClassVar[dict[str, str]] = {
        "learning_rate": "adamw.learning_rate",
        "weight_decay": "adamw.weight_decay",
    }

    def check(self, where: str) -> None:
        """Refuses sizes out of range."""
        at_least(self.num_samples, 0, f"{where}.num_samples")
        at_least(self.batch_size, 1, f"{where}.batch_size")


def relearn(tools: Tools, params: Params, settings: Relearn) -> Attacked:
    """Makes one pass over `num_samples` units of D_neg with AdamW on L_ft (protocols 3.3).

    Args:
      tools: gives D_neg, the frozen weights and the image features.
      params: trainable parameters of the attacked run; copied, not changed.
      settings: number of samples, batch size, optimizer and seed.

    Returns:
      The parameters after the attack, and the record that `finetune` makes.

    Raises:
      UserError: D_neg has fewer than `num_samples` units.
      loop.NotFiniteError: a loss or gradient is not finite.
    """
    from sare_jax.data.batches import tokenize

    units = tokenize(tools.curated, tools.prompter, tools.instruction, kinds=("neg",)).neg
    order = sample_order(len(units), settings.num_samples, settings.seed)
    return finetune(tools, params, units, order, settings)


ATTACK = Attack(settings=Relearn, weights=relearn)
