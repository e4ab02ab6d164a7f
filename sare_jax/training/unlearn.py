"""Stage 3: from the curated sets to tuned parameters."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from sare_jax.data.batches import SETS, Batch, Tokenizer, count_steps, tokenize, unlearn_batches
from sare_jax.data.curated import Curated
from sare_jax.models.load import LoadedLlava
from sare_jax.optim.objectives import ERASING
from sare_jax.settings import OptimConfig
from sare_jax.training import loop
from sare_jax.training.checkpoints import Checkpoints
from sare_jax.training.remat import Policy
from sare_jax.training.sharding import compile_step, gathering, on_mesh, spread_rows
from sare_jax.training.state import Hyper, Params, TrainState, as_arrays, init_state, unlearn_optimizer
from sare_jax.training.step import Metrics, unlearn_step

# Image file names → float[n, P, D_v] vision features; usually a `FeatureCache`.
Features = Callable[[Sequence[str]], np.ndarray]

# Settings that say how long to train and how often to save, which a resumed run may change.
_DURATION = ("epochs", "steps", "checkpoint_every")


def unlearn(
    loaded: LoadedLlava,
    curated: Curated,
    tokenizer: Tokenizer,
    features: Features,
    settings: OptimConfig,
    *,
    folder: Path,
    log: Path,
    name: str,
    mesh: Mesh,
    keep: int = 0,
    limits: Mapping[str, tuple[float, float]] | None = None,
    remat_policy: Policy | None = None,
) -> Params:
    """Trains the mapping layers on D_neg, D_pos and D_sent, going on from the checkpoints in `folder`.

    Runs on one model that differ in numbers alone (ρ, λ, rates) share one compiled step; the two erasing
    objectives have one each. Neither the number of devices nor of hosts changes what comes out; of several
    hosts, all call this with the same arguments, and the first writes the log.

    Args:
      loaded: the base model, placed on the mesh (`frozen_placement`); its parameters are copied, not changed.
      curated: the sets.
      tokenizer: the model's `Prompter`.
      features: vision features by file name.
      settings: of the run.
      folder: of its checkpoints.
      log: of its metrics, JSON lines, one a step: the metrics of `unlearn_step`.
      name: shown with the progress.
      mesh: devices that share the batches, from `make_mesh`.
      keep: the newest so many checkpoints are kept; 0 keeps all.
      limits: see `loop.run`.
      remat_policy: what a layer keeps for its backward pass; None keeps all.

    Returns:
      The tuned parameters.

    Raises:
      UserError: D_neg is empty, units lose their tokens, or `folder` belongs to another run.
      loop.NotFiniteError: training diverged.
      KeyboardInterrupt: on a signal, after a checkpoint.
    """
    sets = tokenize(curated, tokenizer, settings.instruction)
    steps = count_steps(len(sets.neg), settings.batch_size, epochs=settings.epochs, steps=settings.steps)
    batches = unlearn_batches(
        sets,
        batch_size=settings.batch_size,
        steps=steps,
        seed=settings.seed,
        row_multiple=mesh.size * settings.micro_batches,
    )
    compiled = compile_step(
        unlearn_step,
        mesh,
        merge=loaded.merge,
        neg_loss=ERASING[settings.objective],
        micro_batches=settings.micro_batches,
        remat_policy=remat_policy,
    )
    hyper = Hyper(**{field: getattr(settings, field) for field in Hyper._fields})
    optimizer = unlearn_optimizer(hyper)
    arguments = as_arrays(hyper)
    kept = {k: v for k, v in dataclasses.asdict(settings).items() if k not in _DURATION}

    def step(state: TrainState, batch: dict[str, Batch]) -> tuple[TrainState, Metrics]:
        return compiled(state, loaded.frozen, spread_rows(attach(batch, features), mesh), arguments)

    with (
        gathering(mesh),
        Checkpoints(folder, loaded, settings=kept, every=settings.checkpoint_every, keep=keep) as checkpoints,
    ):
        state = loop.run(
            on_mesh(lambda params: init_state(params, optimizer, settings.seed), mesh, loaded.params),
            iter(batches),
            step,
            steps=steps,
            name=name,
            checkpoints=checkpoints,
            log_path=log,
            limits=limits,
        )
    return state.params


def attach(batch: dict[str, Batch], features: Features) -> dict[str, dict[str, Any]]:
    """Puts vision features in the place of image names, asking for each image once."""
    names = [batch[kind]["image"] for kind in SETS]
    found = np.split(features(np.concatenate(names).tolist()), len(SETS))
    return {
        kind: {key: value for key, value in batch[kind].items() if key != "image"} | {"features": rows}
        for kind, rows in zip(SETS, found, strict=True)
    }
