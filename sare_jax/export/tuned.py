"""Files of the tuned tensors alone, for readers who have the base model."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.export.tensors import stored, tuned_tensors
from sare_jax.models.interface import Source
from sare_jax.models.load import abstract, content_hash
from sare_jax.models.shared import torch_pickle
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.partition import Tree, flatten, trainable_paths, unflatten
from sare_jax.models.shared.safetensors_io import read_header, write_file
from sare_jax.models.shared.target import here
from sare_jax.models.shared.weight_files import Tensor

Naming = Callable[[str], str]  # name in the family's table -> what a file calls the tensor


def export_tensors(source: Source, params: Tree, file: Path, *, step: int, own: str) -> None:
    """Writes a safetensors file, the only one of its folder, by the names of the base's own files.

    Args:
      source: the base model, which the header names.
      params: nested dictionary of the tuned parameters.
      file: path of the new file; its folder appears when it is whole, and replaces an earlier export.
      step: optimizer step at which the checkpoint was saved; the header names it too.
      own: regular expression of the files that an earlier export may have left in the folder.

    Raises:
      UserError: the base lacks a parameter or has it in another shape; or the folder holds other files.
    """
    tensors = {
        source.written_name(name): stored(value, source.tensors[name].dtype)
        for name, value in tuned_tensors(source, params).items()
    }
    layout = [(name, value.dtype, value.shape) for name, value in tensors.items()]
    about = {"format": "pt", **about_base(source), "step": str(step)}
    require_own_folder(file.parent, own)
    with files.replacing(file.parent) as draft:
        draft.mkdir()
        write_file(draft / file.name, layout, tensors.values(), about)


def export_state(
    source: Source,
    params: Tree,
    file: Path,
    *,
    step: int,
    settings: Mapping[str, Any],
    own: str,
    naming: Naming = str,
) -> None:
    """Writes a torch state dict of float32 tensors and, beside it, config.json, as EFUF's training does.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters.
      file: path of the new file; its folder appears when it is whole, and replaces an earlier export.
      step: optimizer step at which the checkpoint was saved.
      settings: the run's settings by name; those that are numbers, texts or truth values are written.
      own: regular expression of the files that an earlier export may have left in the folder.
      naming: name in the family's table -> name in the file.

    Raises:
      UserError: the base lacks a parameter or has it in another shape; or the folder holds other files.
    """
    state = {
        naming(name): np.array(value, np.float32, order="C")
        for name, value in tuned_tensors(source, params).items()
    }
    plain = {key: value for key, value in settings.items() if isinstance(value, int | float | str | None)}
    require_own_folder(file.parent, own)
    with files.replacing(file.parent) as draft:
        draft.mkdir()
        torch_pickle.write_file(draft / file.name, state)
        files.write_json(draft / "config.json", plain | about_base(source) | {"step": step})


def about_base(source: Source) -> dict[str, str]:
    """Name and content hash of the base model, as exports record them."""
    return {"base": source.folder.name, "base_hash": content_hash(source)}


def require_own_folder(folder: Path, own: str) -> None:
    """Checks that a folder does not exist or holds nothing but an earlier export.

    Args:
      folder: the folder that will be replaced.
      own: regular expression that matches the whole names of an export's files.

    Raises:
      UserError: the folder holds other files.
    """
    is_own = folder.is_dir() and all(re.fullmatch(own, path.name) for path in folder.iterdir())
    if folder.exists() and not is_own:
        raise UserError(f"{folder}: exists and is no such export; name another folder, or remove it")


def verify_tuned(file: Path, source: Source, params: Tree, namings: Sequence[Naming] = ()) -> str:
    """Reads an exported file back; arguments as in `load_tuned`.

    Raises:
      UserError: the tensors are not those that were given.
    """
    paths = flatten(params)
    again = flatten(load_tuned(file, source, "|".join(paths), namings))
    if wrong := [path for path, value in paths.items() if not np.array_equal(again[path], value)]:
        raise UserError(f"{file}: {', '.join(wrong)} are not as they were written")
    count = sum(int(value.size) for value in jax.tree.leaves(params))
    return f"{file}: {len(tuned_tensors(source, params))} tensors, {count:,} parameters, read back and equal"


def load_tuned(file: Path, source: Source, trainable: str = "", namings: Sequence[Naming] = ()) -> Tree:
    """Reads tuned tensors for a base model.

    Args:
      file: a .safetensors file, or a torch state dict; buffers that hold no weights are ignored.
      source: the base model.
      trainable: regular expression on '/'-joined paths; exactly these parameters have to be in the file.
        Empty takes `Family.trainable`.
      namings: further ways in which the file may name tensors, name in the family's table -> name in the
        file, besides the names of the base's files and of the table itself.

    Returns:
      Nested dictionary of float32 arrays, like `LoadedModel.params`.

    Raises:
      UserError: lists every tensor that is missing, unexpected or mis-shaped.
    """
    family = source.family
    _, shapes = abstract(family, source.config, here())
    chosen = trainable_paths(shapes, trainable or family.trainable, at_most=1.0)
    table = [entry for entry in family.entries(source.config) if entry.path in chosen]
    file = Path(file)
    tensors = read_header(file)[0] if file.suffix == ".safetensors" else torch_pickle.read_file(file)
    weights: dict[str, Tensor] = {
        name: tensor for name, tensor in tensors.items() if not family.is_buffer(name)
    }
    tuned = _by_table_name(file, weights, source, table, (source.written_name, *namings, str))
    misshaped = [
        f"{tuned[name].name} is {list(tuned[name].shape)}, need {list(shape)}"
        for entry in table
        for name in entry.names()
        if tuned[name].shape != (shape := entry.hub_shape(shapes[entry.path].shape))
    ]
    if misshaped:
        raise UserError(f"{file}: does not fit {source.folder}; mis-shaped: {', '.join(misshaped)}")
    return unflatten({entry.path: _assembled(entry, tuned) for entry in table})


def _by_table_name(
    file: Path, tensors: dict[str, Tensor], source: Source, table: list[Entry], namings: Sequence[Naming]
) -> dict[str, Tensor]:
    """Name in the family's table -> tensor, by the naming that has most names in common with the file.

    Raises:
      UserError: under that naming a tensor of the table is missing, or the file has others.
    """
    names = [name for entry in table for name in entry.names()]
    tried = [{naming(name): name for name in names} for naming in namings]
    best = max(tried, key=lambda naming: len(naming.keys() & tensors.keys()))
    missing, unexpected = [sorted(best.keys() - tensors.keys()), sorted(tensors.keys() - best.keys())]
    problems = (("missing", missing), ("unexpected", unexpected))
    wrong = [f"{kind}: {', '.join(listed)}" for kind, listed in problems if listed]
    if wrong:
        raise UserError(f"{file}: does not fit {source.folder}; {'; '.join(wrong)}")
    return {name: tensors[called] for called, name in best.items()}


def _assembled(entry: Entry, tensors: dict[str, Tensor]) -> np.ndarray:
    layers = [tensors[name].map().transpose(entry.axes).astype(np.float32) for name in entry.names()]
    return np.stack(layers) if entry.layers else np.ascontiguousarray(layers[0])
