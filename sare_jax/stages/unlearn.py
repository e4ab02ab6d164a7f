"""Stage 3: one unlearning run per method, each from the same base model and the same curated data."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

from sare_jax import files, hosts
from sare_jax.pipeline import Task
from sare_jax.records.curated import read_curated
from sare_jax.settings.optim import OptimConfig
from sare_jax.stages import sinks
from sare_jax.stages.context import Context
from sare_jax.training.remat import remat_policy
from sare_jax.training.unlearn import unlearn


def tasks(context: Context) -> Iterator[Task]:
    """Trains each run into `checkpoints/<run>`, with `logs/<run>.jsonl`."""
    curated = context.digest(context.curated, "curate")
    images = context.trained_images
    for name, settings in context.config.runs.items():
        yield Task(
            name=f"unlearn/{name}",
            inputs=context.model_inputs()
            | {
                "trainable": context.config.model.trainable,
                "curated": curated,
                "images": images,
                "settings": dataclasses.asdict(settings),
            },
            outputs=(context.checkpoints(name), context.log(name)),
            scratch=(_draft(context, name),),
            on="all",
            run=functools.partial(_train, context, name, settings),
        )


def _train(context: Context, name: str, settings: OptimConfig) -> None:
    draft = _draft(context, name)
    with sinks.live(context, name) as on_log:
        unlearn(
            context.loaded,
            read_curated(context.curated),
            context.image_prompter,
            context.features,
            settings,
            folder=draft / "checkpoints",
            log=draft / "log.jsonl",
            starting=context.starting_values,
            made_from=context.model_inputs(),
            name=context.config.run_labels[name],
            mesh=context.mesh,
            remat_policy=remat_policy(context.config.model.remat, context.mesh),
            on_log=on_log,
            sizer=context.sizer(f"runs.{name}.micro_batches", OptimConfig.micro_batches),
        )
    hosts.first_only(lambda: _publish(context, name), f"unlearn/{name} published")


def _publish(context: Context, name: str) -> None:
    draft = _draft(context, name)
    files.write_text(context.log(name), (draft / "log.jsonl").read_text(encoding="utf-8"))
    files.settle(draft / "checkpoints", context.checkpoints(name))
    files.remove(draft)


def _draft(context: Context, name: str) -> Path:
    """Folder of an unfinished run; its parts are published when training is done."""
    return context.checkpoints(name).with_name(f".{name}.partial")
