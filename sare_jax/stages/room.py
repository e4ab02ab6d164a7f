"""Whether memory and disk have room for what a run will do, by the plan's sums; nothing is compiled."""

import shutil
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.settings import ModelConfig
from sare_jax.stages.context import Context

COMPUTING = ("caption", "unlearn", "evaluate", "attack")
_STEPS_KEPT = 2  # checkpoints of a run that are counted: there are at least the last and one before it


def check(context: Context) -> None:
    """Holds the plan against the devices' memory and the workdir's disk.

    A run whose report is there already did fit, and is not held against anything.

    Raises:
      UserError: a device has less memory than a step takes by shapes, which is the least that it can take, or
        the disk has less room than checkpoints and export take.
    """
    if not any(stage in context.config.stages for stage in (*COMPUTING, "export")):
        return
    if context.ledger.is_done("report/page"):
        return
    from sare_jax.plan import compiled

    source = context.source
    model = compiled.abstract_model(source.family, source.config, context.config.model, context.mesh)
    _check_memory(context, model)
    _check_disk(context, model)


def _check_memory(context: Context, model: Any) -> None:
    from sare_jax.plan import analytic, sizes
    from sare_jax.plan.sizer import memory_there

    mesh, shapes = context.mesh, model.shape
    config = sizes.least(context.config)  # what `auto` chooses fits
    peaks = {}
    if any(stage in config.stages for stage in ("caption", "evaluate", "attack")):
        batch = sizes.captioning(config, shapes, mesh.size)
        parts = analytic.captioning_bytes(shapes, model.params, model.frozen, mesh, batch)
        peaks["a batch of captions", "caption.batch_size and evaluate.batch_size"] = sum(parts.values())
    if "unlearn" in config.stages and config.runs:
        step = sizes.training(config, shapes, mesh.size)
        parts = analytic.training_bytes(shapes, model.params, model.frozen, mesh, step)
        peaks["a training step", "optim.batch_size, or raise optim.micro_batches"] = sum(parts.values())
    there, whose = memory_there(context.mesh)
    for (what, way_out), needed in peaks.items():
        if needed > there:
            raise UserError(
                f"memory: {what} takes {_gb(needed)} a device by shapes, and {whose} has {_gb(there)}; lower "
                f"config.{way_out}, {_smaller(config.model)}divide the weights by config.model.fsdp (see "
                "--plan)"
            )


def _smaller(model: ModelConfig) -> str:
    """Advice to make the weights smaller, where they could be."""
    return "set config.model.quantization=int8, or " if model.quantization == "none" else "or "


def _check_disk(context: Context, model: Any) -> None:
    import jax

    config, there = context.config, _existing(context.workdir)
    trained = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(model.params))
    needed = 0
    if "unlearn" in config.stages:
        needed += _STEPS_KEPT * 3 * trained * len(config.runs)  # weights and AdamW's two moments
    if "attack" in config.stages:
        needed += trained * len(config.attacks) * (1 + len(config.runs))
    if "export" in config.stages and config.export.form in ("folder", "published"):
        needed += sum(tensor.num_bytes for tensor in context.source.tensors.values())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{there}: {_gb(free)} are free, and checkpoints and export take {_gb(needed)} at least; "
            "free some, or choose another disk with --workdir=FOLDER"
        )


def _existing(path: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
