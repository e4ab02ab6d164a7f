"""Stage 3: from captions and curated sets to tuned parameters."""

import dataclasses
import functools
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sare_jax.data.batches import (
    SETS,
    Batch,
    Tokenizer,
    TokenSets,
    common_prefix,
    count_steps,
    unlearn_batches,
)
from sare_jax.data.packing import PackedRow, pack, packed_batches
from sare_jax.errors import UserError
from sare_jax.models.interface import Family, LoadedModel
from sare_jax.objectives import Objective
from sare_jax.objectives.needs import OtherNegatives, has, layer_of
from sare_jax.records.curated import Curated
from sare_jax.settings.auto import AUTO, Lowered, Sizer
from sare_jax.settings.optim import OptimConfig, objective_of
from sare_jax.training import gradients, loop
from sare_jax.training.asking import answer_odds
from sare_jax.training.checkpoints import Checkpoints
from sare_jax.training.parts import fewest, lowered_step
from sare_jax.training.preset import EfufSchedule
from sare_jax.training.remat import Policy
from sare_jax.training.samples import samples_of
from sare_jax.training.sharding import compile_step, gathering, on_mesh, spread_rows
from sare_jax.training.starting import Features, with_starting_values
from sare_jax.training.state import (
    Hyper,
    Params,
    TrainState,
    as_arrays,
    efuf_optimizer,
    init_state,
    unlearn_optimizer,
)
from sare_jax.training.static import Dropout, Static
from sare_jax.training.step import Metrics, efuf_step, unlearn_step
from sare_jax.training.work import OTHERS

ROWS_PER_IMAGE = 4  # rows of a step, for one image with the questions that are asked about it
# Settings that say how long to train and how often to save, which a resumed run may change.
_DURATION = ("epochs", "steps", "checkpoint_every")


def unlearn(
    loaded: LoadedModel,
    curated: Curated,
    tokenizer: Tokenizer,
    features: Features,
    settings: OptimConfig,
    *,
    folder: Path,
    log: Path,
    starting: Path,
    name: str,
    mesh: Mesh,
    made_from: Mapping[str, Any] = types.MappingProxyType({}),
    keep: int = 0,
    limits: Mapping[str, tuple[float, float]] | None = None,
    remat_policy: Policy | None = None,
    on_log: loop.OnLog | None = None,
    sizer: Sizer | None = None,
) -> Params:
    """Trains the trainable parameters on the samples of the settings, going on from checkpoints in `folder`.

    Runs on one model that differ in numbers alone (ρ, λ, rates) share one compiled step; those with ρ = 0
    have another, of one pass. Neither the number of devices nor of hosts changes what comes out; of several
    hosts, all call this with the same arguments, and the first writes the log.

    Args:
      loaded: the base model, placed on the mesh (`frozen_placement`); its parameters are copied, not changed.
      curated: captions, and the units of D_neg, D_pos and D_sent that were cut from them.
      tokenizer: the model's `ImagePrompter`.
      features: gives the image features of image file names.
      settings: objective, radius, weights, optimizer and length of the run.
      folder: where checkpoints are kept; a run goes on from the newest.
      log: JSON lines file with one record a step: the metrics of `unlearn_step` or `efuf_step`.
      starting: folder of what the objective needs from the starting weights, which runs share.
      name: shown with the progress.
      mesh: devices that share the batches, from `make_mesh`.
      made_from: JSON-able values that weights and features depend on, beside the model's content; they name
        what is kept in `starting`.
      keep: the newest so many checkpoints are kept; 0 keeps all.
      limits: metric → (lowest, highest) value; a run that leaves them ends early (`loop.run`).
      remat_policy: what a layer keeps for its backward pass; None keeps all.
      on_log: takes the records of the log as they come (`loop.run`).
      sizer: chooses the number of micro-batches where the settings leave it to memory.

    Returns:
      The tuned parameters.

    Raises:
      UserError: there is nothing to train on, units lose their tokens, `folder` belongs to another run, or
        the family has nothing to drop.
      loop.NotFiniteError: training diverged.
      KeyboardInterrupt: on a signal, after a checkpoint.
    """
    objective = objective_of(settings)
    _check_layer(objective, loaded)
    measure = functools.partial(
        with_starting_values,
        loaded=loaded,
        features=features,
        mesh=mesh,
        batch_size=settings.batch_size,
        folder=starting,
        made_from=made_from,
    )
    ask = functools.partial(
        answer_odds,
        loaded=loaded,
        features=features,
        mesh=mesh,
        batch_size=max(1, settings.batch_size // ROWS_PER_IMAGE),
        pad_id=tokenizer.pad_id,
        folder=starting,
        made_from=made_from,
    )
    samples = samples_of(curated, tokenizer, settings, ask)
    sets = measure(samples.sets, (*objective.needs, *samples.needs))
    # Without a perturbation (ρ = 0) other negatives have no use.
    others = (OTHERS,) if settings.rho and has(objective.needs, OtherNegatives) else ()
    hyper = as_arrays(
        Hyper(
            settings.rho,
            settings.neg_weight,
            settings.sent_weight,
            settings.adamw,
            settings.pos_weight,
        )
    )
    packed = pack(sets) if settings.packing == "packed" else ()
    size = len(packed) or len(sets.neg)
    steps = count_steps(size, settings.batch_size, epochs=settings.epochs, steps=settings.steps)
    static = Static(
        loaded.merge,
        objective,
        gradients.of_model(loaded),
        settings.sam,
        prefix=common_prefix(sets, loaded.shape.image_token_id),
        padded_length=max(getattr(sets, kind).length for kind in SETS),
        lexicon=samples.lexicon,
        schedule=EfufSchedule(steps) if settings.preset == "efuf" else None,
        remat_policy=remat_policy,
        dropout=_dropout(loaded.family, settings.dropout),
    )
    make = unlearn_step if settings.rho else efuf_step
    optimizer = unlearn_optimizer(hyper, settings.sam) if settings.rho else efuf_optimizer(hyper)

    kept = {k: v for k, v in dataclasses.asdict(settings).items() if k not in _DURATION}

    def batches_in(parts: int) -> Iterable[dict[str, Batch]]:
        multiple = mesh.size * parts
        return _batches(sets, packed, settings, steps=steps, row_multiple=multiple, others=others)

    def step_in(parts: int) -> jax.stages.Wrapped:
        return compile_step(make, mesh, dataclasses.replace(static, micro_batches=parts))

    def lowered(parts: int) -> Lowered:
        batch = next(iter(batches_in(parts)))
        return lowered_step(step_in(parts), loaded, batch, static.padded_length, optimizer, hyper, mesh)

    parts = settings.micro_batches
    if parts == AUTO:
        about = {"length": static.padded_length, "settings": kept}
        parts = fewest(sizer, lowered, settings, mesh, about)
    batches, compiled = batches_in(parts), step_in(parts)

    def step(state: TrainState, batch: dict[str, Batch]) -> tuple[TrainState, Metrics]:
        return compiled(state, loaded.frozen, spread_rows(attach(batch, features), mesh), hyper)

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
            on_log=on_log,
        )
    return state.params


def attach(batch: dict[str, Batch], features: Features) -> dict[str, dict[str, Any]]:
    """Replaces `image`, the names, by `features`, image features, in every group that has images."""
    names = {group: part["image"] for group, part in batch.items() if "image" in part}
    all_features = features(np.concatenate(list(names.values())).tolist())
    pieces = np.split(all_features, np.cumsum([len(part) for part in names.values()])[:-1])
    by_group = {group: {"features": rows} for group, rows in zip(names, pieces, strict=True)}
    return {
        group: {key: value for key, value in part.items() if key != "image"} | by_group.get(group, {})
        for group, part in batch.items()
    }


def _check_layer(objective: Objective, loaded: LoadedModel) -> None:
    layer, layers = layer_of(objective.needs), loaded.shape.text.num_layers
    if layer is not None and layer > layers:
        raise UserError(f"optim.objective_args.layer: is {layer}, but the language model has {layers} layers")


def _dropout(family: Family, rate: float) -> Dropout | None:
    if not rate:
        return None
    if family.dropping is None:
        raise UserError(
            f"optim.dropout: is {rate}, but {family.name} has no attention in its mapping layers; set it to 0"
        )
    return Dropout(family.dropping, rate)


def _batches(
    sets: TokenSets, packed: Sequence[PackedRow], settings: OptimConfig, **sizes: Any
) -> Iterable[dict[str, Batch]]:
    """The stream of batches."""
    if packed:
        return packed_batches(
            packed, batch_size=settings.batch_size, seed=settings.seed, pad_id=sets.neg.pad_id, **sizes
        )
    return unlearn_batches(sets, batch_size=settings.batch_size, seed=settings.seed, **sizes)
