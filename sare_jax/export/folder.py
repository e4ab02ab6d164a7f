"""Tuned weights back into a Hugging Face folder: the base streams through, tuned tensors are replaced."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sare_jax.errors import UserError
from sare_jax.export import hub_form
from sare_jax.export.shards import Entry, Shard, cut, total_bytes, write_shards
from sare_jax.export.tensors import stored, tuned_tensors
from sare_jax.files import read_json, replacing
from sare_jax.models.llava.names import EMBEDDING, HEAD, is_buffer, rows
from sare_jax.models.llava.source import Source, open_source
from sare_jax.models.load import abstract, check_names
from sare_jax.models.shared.hub import weight_layout
from sare_jax.models.shared.partition import Tree
from sare_jax.models.shared.safetensors_io import read_header
from sare_jax.models.shared.weight_files import SAFETENSORS, Tensor, shards

# Weights in other formats would be the untuned ones, so they are not copied.
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".safetensors", ".index.json")


def export_folder(source: Source | Path, params: Tree, folder: Path) -> None:
    """Writes the whole model with tuned parameters, for transformers to load.

    A base in the hub's form keeps its names, files and shards; torch files become safetensors. A base in the
    original form (LLaVA's own, ShareGPT4V) becomes a folder of the hub's form, see `hub_form`. All tensors
    but the tuned ones keep their dtype and bytes. A tuned tensor is stored in the base's dtype where that
    holds its values exactly, and in float32 otherwise: most steps of a fine-tuning are too small for a 16-bit
    weight. `from_pretrained` casts to the dtype asked for in either case.

    Args:
      source: the base model; a folder is opened as one.
      params: nested dictionary of the tuned parameters (`LoadedLlava.params`, or as restored).
      folder: the new folder. It appears when it is whole, and replaces an earlier export.

    Raises:
      UserError: the base is not whole; a tuned parameter that it lacks or that has another shape; a `folder`
        that is the base itself or holds something else than a model; or too little room on the disk.
    """
    source = source if isinstance(source, Source) else open_source(Path(source))
    folder = Path(folder)
    _check_target(source, folder)
    check_names(source, rows(source.config), abstract(source.config)[1])
    tuned = tuned_tensors(source, params)
    plan = _plan(source, tuned)
    require_room(folder, total_bytes(plan))
    with replacing(folder) as draft:
        draft.mkdir()
        write_shards(draft, plan, _index_metadata(source))
        if source.form == "hub":
            _copy_others(source.folder, draft)
            hub_form.complete_processor(source, draft)
        else:
            hub_form.write_files(source, draft)


def require_room(folder: Path, size: int) -> None:
    """Checks that the disk has room for `size` bytes.

    Raises:
      UserError: it has not; says how much is needed and free.
    """
    parent = next(path for path in folder.absolute().parents if path.exists())
    free = shutil.disk_usage(parent).free
    if free < size:
        raise UserError(f"{folder}: {size / 1e9:.1f} GB are needed there, {free / 1e9:.1f} GB are free")


def _plan(source: Source, tuned: dict[str, np.ndarray]) -> list[Shard]:
    if source.form == "hub" and weight_layout(source.folder) is SAFETENSORS:
        return [shard for shard in _own_shards(source, tuned) if shard.entries]
    if source.form == "hub":
        return cut([_entry(t.name, t, tuned.get(name)) for name, t in source.tensors.items()])
    kept = {name: tensor for name, tensor in source.tensors.items() if not is_buffer(name)}
    num_rows = hub_form.num_rows(source)
    entries = {name: _entry(name, tensor, tuned.get(name)) for name, tensor in kept.items()}
    for name in (EMBEDDING, HEAD):
        if name in entries:
            entries[name] = hub_form.padded(entries[name], num_rows)
    return cut(list(entries.values()))


def _own_shards(source: Source, tuned: dict[str, np.ndarray]) -> Iterable[Shard]:
    """The base's files with the base's names; a head that a tied model stored a second time is left out."""
    names = {tensor.name: name for name, tensor in source.tensors.items()}
    for file in shards(source.folder):
        tensors, metadata = read_header(file)
        entries = [
            _entry(name, tensor, tuned.get(names[name])) for name, tensor in tensors.items() if name in names
        ]
        yield Shard(file.name, entries, metadata)


def _entry(name: str, base: Tensor, tuned: np.ndarray | None) -> Entry:
    if tuned is None:
        return Entry(name, base.dtype, base.shape, base.map)
    value = stored(tuned, base.dtype)
    return Entry(name, value.dtype, value.shape, lambda: value)


def _index_metadata(source: Source) -> dict:
    index = source.folder / SAFETENSORS.index
    return read_json(index).get("metadata", {}) if source.form == "hub" and index.is_file() else {}


def _copy_others(base: Path, draft: Path) -> None:
    for path in sorted(base.rglob("*")):
        relative = path.relative_to(base)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not path.is_file() or path.name.endswith(_OTHER_WEIGHTS):
            continue
        (draft / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, draft / relative)  # follows links: a hub cache is made of them


def _check_target(source: Source, folder: Path) -> None:
    outside = folder.resolve()
    for base in filter(None, (source.folder, source.tower)):
        inside = base.resolve()
        if inside == outside or outside in inside.parents or inside in outside.parents:
            raise UserError(f"{folder}: is the base model's folder {base}, or holds it or lies in it")
    if folder.exists():
        is_model = folder.is_dir() and (folder / "config.json").is_file()
        if not is_model and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"{folder}: exists and is no model; name another folder, or remove it")
