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
    """Units of D_neg, nested by seed; 60, 100 and 140 in the paper, 0 for all."""
    adamw: AdamW = AdamW(weight_decay=0.0)
    """AdamW of this attack, at a constant rate."""
    batch_size: int = 4
    """Units a step; there is one pass over them."""
    seed: int = 0
    """Seed of the units and their order."""

    RENAMED: ClassVar[dict[str, str]] = {
        "learning_rate": "adamw.learning_rate",
        "weight_decay": "adamw.weight_decay",
    }

    def check(self, where: str) -> None:
        """Refuses sizes out of range."""
        at_least(self.num_samples, 0, f"{where}.num_samples")
        at_least(self.batch_size, 1, f"{where}.batch_size")


def relearn(tools: Tools, params: Params, settings: Relearn) -> Attacked:
    """Tunes the trainable parameters once over `num_samples` units of D_neg by AdamW on L_ft (protocols 3.3).

    Args:
      tools: the model and the data.
      params: the unlearnt parameters; copied, not changed.
      settings: number of samples, batch size, optimizer and seed.

    Returns:
      The relearnt parameters, and what `finetune` records.

    Raises:
      UserError: D_neg has fewer than `num_samples` units.
      loop.NotFiniteError: training diverged.
    """
    from sare_jax.data.batches import tokenize

    units = tokenize(tools.curated, tools.prompter, tools.instruction, kinds=("neg",)).neg
    order = sample_order(len(units), settings.num_samples, settings.seed)
    return finetune(tools, params, units, order, settings)


ATTACK = Attack(settings=Relearn, weights=relearn)
