"""Stage 5: attempts to bring the hallucinations back; each is measured as the run itself was in stage 4."""

from collections.abc import Iterator
from pathlib import Path

from sare_jax import files, pipeline
from sare_jax.config import BASE_RUN, split_names
from sare_jax.pipeline import Task
from sare_jax.stages import attacking, marking, masking, measuring, probing, sinks
from sare_jax.stages.attacking import Weights
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import load_params, save_params, saved_hash


def tasks(context: Context) -> Iterator[Task]:
    """Attacks each run, by changed weights, by another way to ask, or by both, as the attack's kind does.

    Unless an attack's config names its runs, the base model is attacked too. What an attack adds to a model
    that unlearned nothing was not brought back but taught. The captions for people to mark, the control
    against masking and the sinks come last.
    """
    for name, config in context.config.attacks.items():
        attack, asking = attacking.attack_named(context, name), attacking.asking_of(context, name)
        for run in split_names(config.runs) or [BASE_RUN, *context.config.runs]:
            weights = attacking.weights_of(context, run)
            if attack.weights:
                yield _attacking(context, run, name, weights)
                weights = _attacked_weights(context, run, name, weights[0])
            yield from measuring.measured(context, run, name, *weights, asking=asking)
            if attack.weights or asking.prompt:  # else openings are read as before the attack
                yield from probing.probed(context, run, name, *weights, asking=asking)
    yield from marking.tasks(context)
    yield from masking.tasks(context)
    yield from sinks.tasks(context)


def attacked_weights(context: Context, run: str, name: str) -> Weights:
    """Under which a run is measured after the attack `name`; its own where the attack makes none."""
    weights = attacking.weights_of(context, run)
    if attacking.attack_named(context, name).weights is None:
        return weights
    return _attacked_weights(context, run, name, weights[0])


def attacked_folder(context: Context, run: str, name: str) -> Path:
    """Checkpoint folder of the weights that attack `name` made from those of `run`."""
    return context.checkpoints(f"{run}+{name}")


def _attacking(context: Context, run: str, name: str, weights: Weights) -> Task:
    folder, record = attacked_folder(context, run, name), context.attack_record(run, name)
    config, (inputs, params) = context.config.attacks[name], weights

    def make() -> None:
        made = attacking.attacked(context, run, name, params())
        save_params(folder, made.params, context.loaded)
        files.write_json(record, {"run": run, "attack": name, "kind": config.kind, **made.record})

    return Task(
        name=f"attack/{run}/{name}",
        inputs=context.model_inputs()
        | inputs
        | {
            "curated": context.digest(context.curated, "curate"),
            "images": context.trained_images,
            "attack": attacking.identity_of(context, name),
            "instruction": attacking.instruction_of(context, run),
        },
        outputs=(folder, record),
        run=make,
    )


def _attacked_weights(context: Context, run: str, name: str, before: dict) -> Weights:
    folder = attacked_folder(context, run, name)
    return (
        before | {"params": saved_hash(pipeline.require(folder, "attack"), 0), "attack": name},
        lambda: load_params(folder, context.loaded),
    )
