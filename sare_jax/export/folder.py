"""Tuned weights back into a model folder: the base streams through, tuned tensors are replaced."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.export.compared import differences
from sare_jax.export.shards import Output, Shard, cut, total_bytes, write_shards
from sare_jax.export.tensors import stored, tuned_tensors
from sare_jax.files import replacing
from sare_jax.models.interface import Source
from sare_jax.models.load import abstract, check_names
from sare_jax.models.shared.hub import weight_layout
from sare_jax.models.shared.partition import Tree
from sare_jax.models.shared.safetensors_io import read_header
from sare_jax.models.shared.target import here
from sare_jax.models.shared.weight_files import SAFETENSORS, Tensor, shards
from sare_jax.schema import read_object

# Files of weights, in this format or another: not copied, since they hold the untuned weights.
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".safetensors", ".index.json")

Tuned = Mapping[str, np.ndarray]  # name in the family's table -> array, from `tuned_tensors`


def write_folder(
    source: Source,
    params: Tree,
    folder: Path,
    *,
    others: Callable[[Path], None],
    apart: tuple[Path, ...] = (),
    plan: Callable[[Source, Tuned], list[Shard]] | None = None,
    write: Callable[[Path, list[Shard], dict[str, Any]], None] = write_shards,
) -> None:
    """Writes the whole model with tuned parameters.

    All tensors but the tuned ones keep their dtype and bytes. A tuned tensor is stored in the base's dtype
    where that holds its values exactly, and in float32 otherwise: most steps of a fine-tuning are too small
    for a 16-bit weight.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters (`LoadedModel.params`, or as restored).
      folder: the new folder. It appears when it is whole, and replaces an earlier export.
      others: (folder) writes every file but the weights into that folder.
      apart: folders of the base besides its main one, such as that of the vision tower.
      plan: (source, tuned) lists the weight files and their tensors; None keeps the base's files (`own_plan`)
        and the metadata of its index.
      write: (folder, files, metadata of the index) writes the weight files.

    Raises:
      UserError: the base is not whole; it lacks a tuned parameter or has it in another shape; `folder` is the
        base's or holds something else than a model; or the disk has too little room.
    """
    folder = Path(folder)
    _check_target((source.folder, *apart), folder)
    check_names(source, abstract(source.family, source.config, here())[1])
    shards_of = plan or own_plan
    planned = shards_of(source, tuned_tensors(source, params))
    require_room(folder, total_bytes(planned))
    with replacing(folder) as draft:
        draft.mkdir()
        write(draft, planned, {} if plan else _index_metadata(source.folder))
        others(draft)


def verify_folder(source: Source, params: Tree, folder: Path, step: int) -> str:
    """Compares an exported folder with its base.

    Raises:
      UserError: something else than the tuned tensors differs.
    """
    del step
    changes = differences(source, folder)
    tuned = tuned_tensors(source, params).keys()
    if wrong := sorted(changes.changed.keys() - tuned):
        raise UserError(f"{folder}: {', '.join(wrong)} differ from {source.folder} and were not tuned")
    return changes.text()


def copy_others(base: Path, draft: Path) -> None:
    """Copies every file of the base but hidden ones and weights."""
    for path in sorted(base.rglob("*")):
        relative = path.relative_to(base)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not path.is_file() or path.name.endswith(_OTHER_WEIGHTS):
            continue
        (draft / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, draft / relative)  # follows links: a hub cache is made of them


def require_room(folder: Path, size: int) -> None:
    """Checks that the disk has room for `size` bytes.

    Raises:
      UserError: it has not; says how much is needed and free.
    """
    parent = next(path for path in folder.absolute().parents if path.exists())
    free = shutil.disk_usage(parent).free
    if free < size:
        raise UserError(f"{folder}: {size / 1e9:.1f} GB are needed there, {free / 1e9:.1f} GB are free")


def own_plan(source: Source, tuned: Tuned) -> list[Shard]:
    """The base's names and files; torch files become safetensors."""
    if weight_layout(source.folder) is SAFETENSORS:
        return [shard for shard in _own_shards(source, tuned) if shard.outputs]
    return cut([updated(t.name, t, tuned.get(name)) for name, t in source.tensors.items()])


def updated(name: str, base: Tensor, tuned: np.ndarray | None) -> Output:
    """The tensor to be written as `name`: `tuned`, or the base's own where that is None."""
    if tuned is None:
        return Output(name, base.dtype, base.shape, base.map)
    value = stored(tuned, base.dtype)
    return Output(name, value.dtype, value.shape, lambda: value)


def _own_shards(source: Source, tuned: Tuned) -> Iterable[Shard]:
    """The base's files with the base's names, less the copy of a tied head that some files hold."""
    names = {tensor.name: name for name, tensor in source.tensors.items()}
    for file in shards(source.folder):
        tensors, metadata = read_header(file)
        outputs = [
            updated(name, tensor, tuned.get(names[name])) for name, tensor in tensors.items() if name in names
        ]
        yield Shard(file.name, outputs, metadata)


def _index_metadata(folder: Path) -> dict[str, Any]:
    index = folder / SAFETENSORS.index
    return read_object(index).get("metadata", {}) if index.is_file() else {}


def _check_target(bases: tuple[Path, ...], folder: Path) -> None:
    outside = folder.resolve()
    for base in bases:
        inside = base.resolve()
        if inside == outside or outside in inside.parents or inside in outside.parents:
            raise UserError(f"{folder}: is the base model's folder {base}, or holds it or lies in it")
    if folder.exists():
        is_model = folder.is_dir() and (folder / "config.json").is_file()
        if not is_model and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"{folder}: exists and is no model; name another folder, or remove it")
