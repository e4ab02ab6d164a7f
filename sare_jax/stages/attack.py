"""Stage 5: attempts to bring the hallucinations back; each is measured as the run itself was in stage 4."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from sare_jax import files
from sare_jax.attacks import AS_CONFIGURED, Asking, Attacked, Tools, attack_of
from sare_jax.config import BASE_RUN, split_names
from sare_jax.pipeline import Task
from sare_jax.records.curated import read_curated
from sare_jax.stages import measuring
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import load_params, save_params
from sare_jax.training.remat import remat_policy
from sare_jax.training.state import Params

Weights = tuple[dict, Callable[[], Params]]
"""Task inputs that identify the weights, and a function that loads them."""


def tasks(context: Context) -> Iterator[Task]:
    """Attacks each run, by changed weights, by another way to ask, or by both, as the attack's kind does.

    Unless an attack's config names its runs, the base model is attacked too. What an attack adds to a model
    that unlearned nothing was not brought back but taught.
    """
    for name, config in context.config.attacks.items():
        attack = attack_of(config.kind, f"config.attacks.{name}")
        for run in split_names(config.runs) or [BASE_RUN, *context.config.runs]:
            weights = _weights(context, run)
            if attack.weights:
                yield _attacking(context, run, name, weights)
                weights = _attacked_weights(context, run, name, weights[0])
            yield from measuring.measured(context, run, name, *weights, asking=asking_of(context, name))


def attacked_folder(context: Context, run: str, name: str) -> Path:
    """Checkpoint folder of the weights that attack `name` made from those of `run`."""
    return context.checkpoints(f"{run}+{name}")


def asking_of(context: Context, name: str) -> Asking:
    """How the attack `name` asks the model."""
    config = context.config.attacks[name]
    attack = attack_of(config.kind, f"config.attacks.{name}")
    return attack.asking(config.settings) if attack.asking else AS_CONFIGURED


def attacked(context: Context, run: str, name: str, params: Params) -> Attacked:
    """Applies the attack `name` to weights of `run`; returns them unchanged if it does not change weights."""
    config = context.config.attacks[name]
    attack = attack_of(config.kind, f"config.attacks.{name}")
    if attack.weights is None:
        return Attacked(params, {})
    tools = Tools(
        loaded=context.loaded,
        curated=read_curated(context.curated),
        prompter=context.image_prompter,
        features=context.features,
        truth=context.truth,
        mesh=context.mesh,
        remat_policy=remat_policy(context.config.model.remat, context.mesh),
        instruction=_instruction(context, run),
        name=f"{run} {name}",
    )
    return attack.weights(tools, params, config.settings)


def _instruction(context: Context, run: str) -> str:
    """Prompt of a run's training samples. The base model has none; it takes `optim.instruction`."""
    return (context.config.optim if run == BASE_RUN else context.config.runs[run]).instruction


def _weights(context: Context, run: str) -> Weights:
    if run == BASE_RUN:
        return {"base": True}, lambda: context.loaded.params
    return measuring.tuned(context, run)


def _attacking(context: Context, run: str, name: str, weights: Weights) -> Task:
    folder, record = attacked_folder(context, run, name), context.attack_record(run, name)
    config, (inputs, params) = context.config.attacks[name], weights

    def make() -> None:
        made = attacked(context, run, name, params())
        save_params(folder, made.params, context.loaded)
        files.write_json(record, {"run": run, "attack": name, "kind": config.kind, **made.record})

    return Task(
        name=f"attack/{run}/{name}",
        inputs=context.model_inputs()
        | inputs
        | {
            "curated": context.digest(context.curated, "curate"),
            "attack": {"kind": config.kind} | dataclasses.asdict(config.settings),
            "instruction": _instruction(context, run),
        },
        outputs=(folder, record),
        run=make,
    )


def _attacked_weights(context: Context, run: str, name: str, before: dict) -> Weights:
    folder = attacked_folder(context, run, name)
    return (
        before | {"params": context.digest(folder, "attack"), "attack": name},
        lambda: load_params(folder, context.loaded),
    )
