"""What attack, masking and matched share: weights before an attack, and what attacks make of them."""

import dataclasses
from collections.abc import Callable
from typing import Any

from sare_jax import files
from sare_jax.attacks import AS_CONFIGURED, Asking, Attack, Attacked, Tools, attack_of
from sare_jax.config import BASE_RUN
from sare_jax.errors import UserError
from sare_jax.records.curated import read_curated
from sare_jax.stages import measuring
from sare_jax.stages.context import Context
from sare_jax.training.remat import remat_policy
from sare_jax.training.state import Params

Weights = tuple[dict, Callable[[], Params]]
"""Task inputs that identify the weights, and a function that loads them."""


def attack_named(context: Context, name: str) -> Attack:
    """The kind of the attack `name`."""
    return attack_of(context.config.attacks[name].kind, f"config.attacks.{name}")


def asking_of(context: Context, name: str) -> Asking:
    """How the attack `name` asks the model."""
    asking = attack_named(context, name).asking
    return asking(context.config.attacks[name].settings) if asking else AS_CONFIGURED


def attacked(context: Context, run: str, name: str, params: Params) -> Attacked:
    """Applies the attack `name` to weights of `run`; returns them unchanged if it does not change weights."""
    weights = attack_named(context, name).weights
    if weights is None:
        return Attacked(params, {})
    settings = context.config.attacks[name].settings
    default = getattr(type(settings), "rows_at_once", 1)
    sizer = context.sizer(f"attacks.{name}.rows_at_once", default)
    tools = dataclasses.replace(tools_of(context, run, f"{run} {name}"), sizer=sizer)
    return weights(tools, params, settings)


def tools_of(context: Context, run: str, name: str) -> Tools:
    """What an attack on the weights of a run may use; `name` is the label of its progress bar."""
    return Tools(
        loaded=context.loaded,
        curated=read_curated(context.curated),
        prompter=context.image_prompter,
        features=context.features,
        truth=context.truth,
        mesh=context.mesh,
        remat_policy=remat_policy(context.config.model.remat, context.mesh),
        instruction=instruction_of(context, run),
        name=name,
        at=context.in_root,
        pictures=context.pictures,
    )


def identity_of(context: Context, name: str) -> dict[str, Any]:
    """Task inputs that identify the attack `name`: its settings, and the content of files that it reads.

    Raises:
      UserError: there is no such file.
    """
    config, reads = context.config.attacks[name], attack_named(context, name).reads
    contents = {}
    for path in reads(config.settings) if reads else ():
        if not context.in_root(path).is_file():
            raise UserError(f"config.attacks.{name}: {context.in_root(path)}: no such file")
        contents[path] = files.digest(context.in_root(path))
    return {"kind": config.kind} | dataclasses.asdict(config.settings) | contents


def instruction_of(context: Context, run: str) -> str:
    """Prompt of a run's training samples. The base model has none; it takes `optim.instruction`."""
    return (context.config.optim if run == BASE_RUN else context.config.runs[run]).instruction


def weights_of(context: Context, run: str) -> Weights:
    """The weights of a run, or of the base model, before any attack."""
    if run == BASE_RUN:
        return {"base": True}, lambda: context.loaded.params
    return measuring.tuned(context, run)
