"""Plain fine-tuning, shared by the attacks that train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sare_jax.attacks.interface import Attacked, Tools
from sare_jax.errors import UserError

if TYPE_CHECKING:
    import optax

    from sare_jax.data.batches import Batch, TokenSet
    from sare_jax.optim import AdamW
    from sare_jax.training.state import Params, TrainState
    from sare_jax.training.step import Metrics


class Tuning(Protocol):
    """The part of an attack's settings that says how it trains."""

    @property
    def adamw(self) -> AdamW:
        """AdamW's numbers; the learning rate stays constant."""

    @property
    def batch_size(self) -> int:
        """Units per optimizer step."""

    @property
    def seed(self) -> int:
        """Seed of the training state's PRNG key."""


def sample_order(num_units: int, num_samples: int, seed: int, what: str = "D_neg") -> np.ndarray:
    """Draws the units that an attack trains on, without replacement.

    Under one seed, the first 60 of 100 samples are those of an attack with 60, so a larger attack continues
    a smaller one.

    Args:
      num_units: number of units to draw from.
      num_samples: number of units to draw; 0 draws all.
      seed: seeds the permutation of the units.
      what: what the error message calls the units.

    Returns:
      int64[num_samples] unit indices, in training order.

    Raises:
      UserError: `num_samples` is larger than `num_units`.
    """
    if num_samples > num_units:
        raise UserError(
            f"attack.num_samples is {num_samples}, but {what} has {num_units}; lower it (0 takes all), or "
            "curate more"
        )
    return np.random.default_rng(seed).permutation(num_units)[: num_samples or num_units]


def finetune(tools: Tools, params: Params, units: TokenSet, order: np.ndarray, settings: Tuning) -> Attacked:
    """Makes one pass over some units with AdamW on L_ft (protocols 3.3).

    AdamW's numbers are arguments of the compiled step, so all runs and sample numbers share one program.

    Args:
      tools: gives the frozen weights, image features and mesh.
      params: the trainable parameters to start from; copied, not changed.
      units: tokenized units of one set.
      order: int[n] indices into `units`, in training order; an index may occur several times.
      settings: optimizer, batch size in units, and seed.

    Returns:
      The tuned parameters, and the record: `samples` and `steps` (counts), and `loss`, each step's L_ft
      before its update, in nats per token.

    Raises:
      loop.NotFiniteError: a loss or gradient is not finite.
    """
    from sare_jax.data.batches import count_steps, finetune_batches
    from sare_jax.optim import adamw
    from sare_jax.training import gradients
    from sare_jax.training.sharding import compile_step
    from sare_jax.training.state import as_arrays
    from sare_jax.training.static import Static
    from sare_jax.training.step import PLAIN, finetune_step

    loaded, mesh = tools.loaded, tools.mesh
    batches = finetune_batches(units, order, batch_size=settings.batch_size, row_multiple=mesh.size)
    static = Static(loaded.merge, PLAIN, gradients.of_model(loaded), remat_policy=tools.remat_policy)
    compiled, arguments = compile_step(finetune_step, mesh, static), as_arrays(settings.adamw)
    steps = count_steps(len(order), settings.batch_size, epochs=1, steps=0)

    def step(state: TrainState, inputs: Batch) -> tuple[TrainState, Metrics]:
        return compiled(state, loaded.frozen, inputs, arguments)

    tuned, metrics = train(
        tools, params, adamw(settings.adamw), batches, step, tools.features, steps=steps, seed=settings.seed
    )
    return Attacked(tuned, {"samples": len(order), "steps": steps, "loss": metrics["loss"]})


def train(
    tools: Tools,
    params: Params,
    optimizer: optax.GradientTransformation,
    batches: Iterable[Batch],
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    features: Callable[[Sequence[str]], np.ndarray],
    *,
    steps: int,
    seed: int,
) -> tuple[Params, dict[str, list[float]]]:
    """Trains for some steps. An interrupted attack starts anew.

    Args:
      tools: gives the mesh, and the label of the progress bar.
      params: the trainable parameters to start from; copied, not changed.
      optimizer: makes the optimizer's state; its settings do not matter here.
      batches: at least `steps` batches, with image names.
      step: (state, a batch with `features`, spread over the mesh) → next state, float[] metrics.
      features: image file names → image features.
      steps: number of steps.
      seed: makes the PRNG key of the training state.

    Returns:
      The tuned parameters, and each metric's values by step.

    Raises:
      loop.NotFiniteError: a loss or gradient is not finite.
    """
    import jax

    from sare_jax.training import loop
    from sare_jax.training.sharding import gathering, on_mesh, spread_rows
    from sare_jax.training.state import init_state

    mesh = tools.mesh
    kept: list[Metrics] = []

    def take(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        inputs = {key: value for key, value in batch.items() if key != "image"}
        inputs["features"] = features(batch["image"].tolist())
        state, metrics = step(state, spread_rows(inputs, mesh))
        kept.append(metrics)
        return state, metrics

    with gathering(mesh):
        state = on_mesh(lambda params: init_state(params, optimizer, seed), mesh, params)
        tuned = loop.run(state, iter(batches), take, steps=steps, name=tools.name).params
    values = jax.device_get(kept)
    return tuned, {name: [float(step[name]) for step in values] for name in values[0]}
