"""Stage 0: puts the data in place and writes which images are for training, validation and test."""

from collections.abc import Iterator
from pathlib import Path

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.extensions import resolve
from sare_jax.locks import locked
from sare_jax.pipeline import Task
from sare_jax.records import splits
from sare_jax.stages.context import Context


def tasks(context: Context) -> Iterator[Task]:
    """Calls `data.prepare` if the config names it, then makes `splits.json`."""
    data = context.config.data
    if data.prepare:
        yield Task(
            name="prepare/data",
            inputs={"prepare": data.prepare, "arguments": data.prepare_args},
            outputs=(context.data_root,),
            run=lambda: _make(context),
        )
    if not context.annotations.is_dir():
        raise UserError(f"{context.annotations}: no such folder; set config.data.annotations")
    instances = sorted(context.annotations.glob("instances_*.json"))
    yield Task(
        name="prepare/splits",
        inputs={
            "split": data.split,
            "reserve": [data.reserve_validation, data.reserve_test],
            "annotations": [files.digest(path) for path in instances],
            "used": files.hash_file(used) if (used := _used(context)) else "",
            "images": files.hash_value(sorted(path.name for path in context.images.glob("*"))),
        },
        outputs=(context.workdir / "splits.json",),
        run=lambda: _split(context).write(context.workdir / "splits.json"),
    )


def _split(context: Context) -> splits.Splits:
    data = context.config.data
    present = splits.in_folder(context.images, context.annotations)
    if data.split == "files":
        return splits.from_annotation_files(context.annotations)
    sizes = {"validation": data.reserve_validation, "test": data.reserve_test}
    if used := _used(context):
        return splits.first_unused(present, splits.used_images(used), **sizes)
    return splits.reserve(present, **sizes, seed=0)


def _used(context: Context) -> Path | None:
    """The file that names the training images, with the split `efuf`.

    Raises:
      UserError: there is no such file.
    """
    data = context.config.data
    if data.split != "efuf":
        return None
    path = Path(data.used)
    if not path.is_file():
        raise UserError(f"config.data.used: {path}: no such file")
    return path


def _make(context: Context) -> None:
    data = context.config.data
    make = resolve(data.prepare, {}, "config.data.prepare")
    root = context.data_root  # which several workdirs may share
    with locked(root.with_name(f".{root.name}.lock"), root):
        make(root, **data.prepare_args)
