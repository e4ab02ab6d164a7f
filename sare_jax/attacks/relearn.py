"""The relearning attack: plain fine-tuning on a few of the units that were unlearnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sare_jax.attacks.interface import Attack, Tools
from sare_jax.errors import UserError
from sare_jax.optim import AdamW
from sare_jax.settings.building import at_least

if TYPE_CHECKING:
    import jax

    from sare_jax.data.batches import Batch
    from sare_jax.training.state import Params, TrainState


@dataclass(frozen=True)
class Relearn:
    """How many samples of D_neg are relearnt, and how (protocols 3.3)."""

    num_samples: int = 60
    """Units of D_neg, nested by seed; 60, 100 and 140 in the paper."""
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
        """Refuses sizes below 1."""
        at_least(self.num_samples, 1, f"{where}.num_samples")
        at_least(self.batch_size, 1, f"{where}.batch_size")


def sample_order(num_negatives: int, num_samples: int, seed: int) -> np.ndarray:
    """The units that an attack sees, in its order.

    Nested by seed: the order of 60 samples is the beginning of that of 100, so a larger attack is a smaller
    one carried on.

    Args:
      num_negatives: units of D_neg.
      num_samples: units that are drawn.
      seed: fixes the order of units.

    Returns:
      int64[num_samples] indices into D_neg.

    Raises:
      UserError: D_neg has fewer units.
    """
    if num_samples > num_negatives:
        raise UserError(
            f"attack.num_samples is {num_samples}, but D_neg has {num_negatives}; lower it, or curate more"
        )
    return np.random.default_rng(seed).permutation(num_negatives)[:num_samples]


def relearn(tools: Tools, params: Params, settings: Relearn) -> Params:
    """Tunes the trainable parameters once over `num_samples` units of D_neg by AdamW on L_ft (protocols 3.3).

    The settings are arguments of one compiled step, which all runs and sample numbers share.

    Args:
      tools: the model and the data.
      params: the unlearnt parameters; copied, not changed.
      settings: number of samples, batch size, optimizer and seed.

    Returns:
      The relearnt parameters.

    Raises:
      UserError: D_neg has fewer than `num_samples` units.
      loop.NotFiniteError: training diverged.
    """
    from sare_jax.data.batches import count_steps, finetune_batches, tokenize
    from sare_jax.optim import adamw
    from sare_jax.training import gradients, loop
    from sare_jax.training.sharding import compile_step, gathering, on_mesh, spread_rows
    from sare_jax.training.state import as_arrays, init_state
    from sare_jax.training.static import Static
    from sare_jax.training.step import PLAIN, finetune_step

    loaded, mesh = tools.loaded, tools.mesh
    units = tokenize(tools.curated, tools.prompter, tools.instruction, kinds=("neg",)).neg
    order = sample_order(len(units), settings.num_samples, settings.seed)
    batches = finetune_batches(units, order, batch_size=settings.batch_size, row_multiple=mesh.size)
    static = Static(loaded.merge, PLAIN, gradients.of_model(loaded), remat_policy=tools.remat_policy)
    compiled = compile_step(finetune_step, mesh, static)
    arguments, optimizer = as_arrays(settings.adamw), adamw(settings.adamw)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        features = {"features": tools.features(batch["image"].tolist())}
        rows = {key: value for key, value in batch.items() if key != "image"} | features
        return compiled(state, loaded.frozen, spread_rows(rows, mesh), arguments)

    with gathering(mesh):
        state = on_mesh(lambda params: init_state(params, optimizer, settings.seed), mesh, params)
        steps = count_steps(settings.num_samples, settings.batch_size, epochs=1, steps=0)
        return loop.run(state, iter(batches), step, steps=steps, name=tools.name).params


ATTACK = Attack(settings=Relearn, weights=relearn)
