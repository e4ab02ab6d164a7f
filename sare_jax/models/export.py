"""Tuned weights back into a Hugging Face folder: the base streams through, tuned tensors are replaced."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sare_jax.errors import UserError
from sare_jax.files import read_json, replacing, write_json
from sare_jax.models.config import read_config
from sare_jax.models.llava_names import hub_name, rows
from sare_jax.models.load import WEIGHT_FILES, abstract, require_files
from sare_jax.models.partition import Tree, flatten
from sare_jax.models.safetensors_io import INDEX, SINGLE, Tensor, read_header, shards, write_file

# Weights in other formats would be the untuned ones, so they are not copied.
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".safetensors", ".bin.index.json")


def export_llava(folder_in: Path, params: Tree, folder_out: Path) -> None:
    """Writes the model of `folder_in` with tuned parameters, under the same names and in the same shards.

    All other tensors keep their bytes, and all other files are copied, except weights in other formats. A
    tuned tensor is stored in the base's dtype where that holds its values exactly, and in float32 otherwise:
    most steps of a fine-tuning are too small for a 16-bit weight. `from_pretrained` casts to the dtype asked
    for in either case. `folder_out` appears when it is whole, and replaces an earlier export.

    Args:
      folder_in: the base model.
      params: nested dictionary of the tuned parameters (`LoadedLlava.params`, or as restored).
      folder_out: the new folder.

    Raises:
      UserError: no whole base model; a tuned parameter that it lacks or that has another shape; or a
        `folder_out` that is the base itself, or holds something else than a model.
    """
    folder_in, folder_out = Path(folder_in), Path(folder_out)
    require_files(folder_in, WEIGHT_FILES)
    _check_target(folder_in, folder_out)
    tuned = tuned_tensors(folder_in, params)
    sources = shards(folder_in)
    with replacing(folder_out) as draft:
        draft.mkdir()
        written = [_copy_shard(source, draft / source.name, tuned) for source in sources]
        if sources[0].name != SINGLE:
            _write_index(folder_in, draft, sum(written))
        _copy_others(folder_in, draft)


def tuned_tensors(folder: Path, params: Tree) -> dict[str, np.ndarray]:
    """Tuned parameters as the hub's tensors: hub name -> array in the hub's axes, layers apart.

    Raises:
      UserError: a parameter that the model of `folder` lacks, or that has another shape there.
    """
    config = read_config(folder)
    _, shapes = abstract(config)
    table = {row.path: row for row in rows(config)}
    tensors = {}
    for path, value in flatten(params).items():
        if path not in table:
            raise UserError(f"{folder}: has no parameter {path}, so it is not the model that was tuned")
        if value.shape != shapes[path].shape:
            raise UserError(
                f"{folder}: {path} is {list(shapes[path].shape)}, the tuned one is {list(value.shape)}"
            )
        row, array = table[path], np.asarray(value)
        inverse = np.argsort(row.axes)
        layers = array if row.layers else array[None]
        tensors |= {name: layer.transpose(inverse) for name, layer in zip(row.names(), layers, strict=True)}
    return tensors


def _copy_shard(source: Path, target: Path, tuned: dict[str, np.ndarray]) -> int:
    """Copies one file with its tuned tensors replaced; returns the bytes of its tensors."""
    tensors, metadata = read_header(source)
    new = {
        name: _stored(tuned[hub_name(name)], old) for name, old in tensors.items() if hub_name(name) in tuned
    }
    dtypes = {name: new[name].dtype if name in new else old.dtype for name, old in tensors.items()}
    layout = [(name, dtypes[name], old.shape) for name, old in tensors.items()]

    def data() -> Iterator[np.ndarray]:
        for name, old in tensors.items():
            yield new[name] if name in new else old.map()

    write_file(target, layout, data(), {**metadata, "format": "pt"})
    return sum(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for _, dtype, shape in layout)


def _stored(value: np.ndarray, old: Tensor) -> np.ndarray:
    """A tuned tensor in the dtype of the base if nothing is lost by that, else as it is."""
    cast = value.astype(old.dtype)
    return cast if np.array_equal(cast.astype(value.dtype), value) else value


def _write_index(folder_in: Path, draft: Path, total_size: int) -> None:
    index = read_json(folder_in / INDEX)
    index["metadata"] = {**index.get("metadata", {}), "total_size": total_size}
    write_json(draft / INDEX, index)


def _copy_others(folder_in: Path, draft: Path) -> None:
    for path in sorted(folder_in.rglob("*")):
        relative = path.relative_to(folder_in)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not path.is_file() or path.name == INDEX or path.name.endswith(_OTHER_WEIGHTS):
            continue
        (draft / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, draft / relative)  # follows links: a hub cache is made of them


def _check_target(folder_in: Path, folder_out: Path) -> None:
    inside, outside = folder_in.resolve(), folder_out.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise UserError(f"{folder_out}: is the base model's folder {folder_in}, or holds it or lies in it")
    if folder_out.exists():
        is_model = folder_out.is_dir() and (folder_out / "config.json").is_file()
        if not is_model and not (folder_out.is_dir() and not any(folder_out.iterdir())):
            raise UserError(f"{folder_out}: exists and is no model; name another folder, or remove it")
