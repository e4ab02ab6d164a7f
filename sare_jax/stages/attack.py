"""Stage 5: attempts to bring the hallucinations back, each measured like the original."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from sare_jax.attacks.relearn import relearn
from sare_jax.config import BASE_RUN, split_names
from sare_jax.pipeline import Task
from sare_jax.records.curated import read_curated
from sare_jax.settings import AttackConfig
from sare_jax.stages import measuring
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import load_params, save_params, steps_in
from sare_jax.training.remat import remat_policy
from sare_jax.training.state import Params


def tasks(context: Context) -> Iterator[Task]:
    """Attacks each run. A relearning makes weights of its own, a prompt only asks differently."""
    for name, settings in context.config.attacks.items():
        for run in _attacked(context, settings):
            if settings.kind == "prompt":
                yield from _prompted(context, run, name, settings)
            else:
                yield _relearning(context, run, name, settings)
                yield from _measured(context, run, name)


def relearned_folder(context: Context, run: str, attack: str) -> Path:
    """Where the weights of a run after a relearning lie."""
    return context.checkpoints(f"{run}+{attack}")


def _attacked(context: Context, settings: AttackConfig) -> list[str]:
    if settings.runs:
        return split_names(settings.runs)
    return list(context.config.runs) if settings.kind == "relearn" else [BASE_RUN, *context.config.runs]


def _prompted(context: Context, run: str, name: str, settings: AttackConfig) -> Iterator[Task]:
    if run == BASE_RUN:
        weights = {"base": True}, lambda: context.loaded.params
    else:
        weights = measuring.tuned(context, run)
    yield from measuring.measured(context, run, name, *weights, prompt=settings.prompt)


def _relearning(context: Context, run: str, name: str, settings: AttackConfig) -> Task:
    folder = relearned_folder(context, run, name)
    return Task(
        name=f"attack/{run}/{name}",
        inputs=context.model_inputs()
        | {
            "params": context.digest(context.checkpoints(run), "unlearn"),
            "curated": context.digest(context.curated, "curate"),
            "attack": dataclasses.asdict(settings),
            "instruction": context.config.runs[run].instruction,
        },
        outputs=(folder,),
        run=lambda: _attack(context, run, name),
    )


def relearned(context: Context, run: str, name: str, params: Params) -> Params:
    """What the relearning attack `name` makes of some weights of `run`."""
    settings = context.config.attacks[name]
    return relearn(
        context.loaded,
        params,
        read_curated(context.curated),
        context.prompter,
        context.features,
        instruction=context.config.runs[run].instruction,
        num_samples=settings.num_samples,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        batch_size=settings.batch_size,
        seed=settings.seed,
        name=f"{run} {name}",
        mesh=context.mesh,
        remat_policy=remat_policy(context.config.model.remat, context.mesh),
    )


def _attack(context: Context, run: str, name: str) -> None:
    params = relearned(context, run, name, load_params(context.checkpoints(run), context.loaded))
    save_params(relearned_folder(context, run, name), params, context.loaded)


def _measured(context: Context, run: str, name: str) -> Iterator[Task]:
    folder = relearned_folder(context, run, name)
    attacked = steps_in(context.checkpoints(run))[-1]
    weights = {"params": context.digest(folder, "attack"), "step": attacked, "attack": name}
    yield from measuring.measured(context, run, name, weights, lambda: load_params(folder, context.loaded))
