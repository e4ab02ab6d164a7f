"""Plain fine-tuning, which the attacks share that train on something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from sare_jax.attacks.interface import Attacked, Tools
from sare_jax.errors import UserError

if TYPE_CHECKING:
    import jax

    from sare_jax.data.batches import Batch, TokenSet
    from sare_jax.optim import AdamW
    from sare_jax.training.state import Params, TrainState


class Tuning(Protocol):
    """The part of an attack's settings that says how it trains."""

    @property
    def adamw(self) -> AdamW:
        """The optimizer, at a constant rate."""

    @property
    def batch_size(self) -> int:
        """Units a step."""

    @property
    def seed(self) -> int:
        """Starts the state's PRNG key."""


def sample_order(num_units: int, num_samples: int, seed: int, what: str = "D_neg") -> np.ndarray:
    """The units that an attack sees, in its order.

    Nested by seed: the order of 60 samples is the beginning of that of 100, so a larger attack is a smaller
    one carried on.

    Args:
      num_units: units that there are.
      num_samples: units that are drawn; 0 draws all.
      seed: fixes the order of units.
      what: the units, for the message.

    Returns:
      int64[num_samples] indices of units.

    Raises:
      UserError: there are fewer units.
    """
    if num_samples > num_units:
        raise UserError(
            f"attack.num_samples is {num_samples}, but {what} has {num_units}; lower it (0 takes all), or "
            "curate more"
        )
    return np.random.default_rng(seed).permutation(num_units)[: num_samples or num_units]


def finetune(tools: Tools, params: Params, units: TokenSet, order: np.ndarray, settings: Tuning) -> Attacked:
    """Tunes the trainable parameters once over some units by AdamW on L_ft (protocols 3.3).

    The settings are arguments of one compiled step, which all runs and sample numbers share.

    Args:
      tools: the model and the data.
      params: where it starts; copied, not changed.
      units: token rows.
      order: int[n], the units that are seen, in their order; a unit may stand there several times.
      settings: optimizer, batch size and seed.

    Returns:
      The tuned parameters, and `samples`, `steps` and `loss`: L_ft of each step's units before the step, in
      nats a token.

    Raises:
      loop.NotFiniteError: training diverged.
    """
    import jax

    from sare_jax.data.batches import count_steps, finetune_batches
    from sare_jax.optim import adamw
    from sare_jax.training import gradients, loop
    from sare_jax.training.sharding import compile_step, gathering, on_mesh, spread_rows
    from sare_jax.training.state import as_arrays, init_state
    from sare_jax.training.static import Static
    from sare_jax.training.step import PLAIN, finetune_step

    loaded, mesh = tools.loaded, tools.mesh
    batches = finetune_batches(units, order, batch_size=settings.batch_size, row_multiple=mesh.size)
    static = Static(loaded.merge, PLAIN, gradients.of_model(loaded), remat_policy=tools.remat_policy)
    compiled = compile_step(finetune_step, mesh, static)
    arguments, optimizer = as_arrays(settings.adamw), adamw(settings.adamw)
    losses: list[jax.Array] = []

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        features = {"features": tools.features(batch["image"].tolist())}
        rows = {key: value for key, value in batch.items() if key != "image"} | features
        state, metrics = compiled(state, loaded.frozen, spread_rows(rows, mesh), arguments)
        losses.append(metrics["loss"])
        return state, metrics

    with gathering(mesh):
        state = on_mesh(lambda params: init_state(params, optimizer, settings.seed), mesh, params)
        steps = count_steps(len(order), settings.batch_size, epochs=1, steps=0)
        tuned = loop.run(state, iter(batches), step, steps=steps, name=tools.name).params
    record = {"samples": len(order), "steps": steps, "loss": [float(x) for x in jax.device_get(losses)]}
    return Attacked(tuned, record)
