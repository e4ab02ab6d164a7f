"""The tuned tensors alone, to be laid over a base model that the other side has.

`projector.safetensors` calls them as the base's own files do. The EFUF form is what EFUF's training saves
and its `load_ckpt` reads (protocols 1.7): a torch state dict of the tuned parameters by the names of LLaVA's
own code, in a file `step_%06d.pth` beside the settings in config.json. That reader picks the last name of a
folder in order of the alphabet, and ignores names that it does not know; the one here refuses them.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.export.tensors import stored, tuned_tensors
from sare_jax.models.llava import original
from sare_jax.models.llava.names import Row, is_buffer, rows
from sare_jax.models.llava.source import Source
from sare_jax.models.load import abstract, content_hash
from sare_jax.models.shared import torch_pickle
from sare_jax.models.shared.partition import Tree, trainable_paths, unflatten
from sare_jax.models.shared.safetensors_io import read_header, write_file
from sare_jax.models.shared.weight_files import Tensor

PROJECTOR_FILE = "projector.safetensors"
EFUF_FILE = "step_{:06d}.pth"
_OWN_FILES = re.compile(r"projector\.safetensors|step_\d+\.pth|config\.json")


def export_projector(source: Source, params: Tree, folder: Path, *, step: int = 0) -> None:
    """Writes `folder`/projector.safetensors; its header names the base model and the step.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters.
      folder: the new folder; it appears when it is whole, and replaces an earlier export.
      step: of the checkpoint.

    Raises:
      UserError: a parameter that the base lacks or that has another shape; or a `folder` of something else.
    """
    tensors = {
        source.written_name(name): stored(value, source.tensors[name].dtype)
        for name, value in tuned_tensors(source, params).items()
    }
    layout = [(name, value.dtype, value.shape) for name, value in tensors.items()]
    about = {
        "format": "pt",
        "base": source.folder.name,
        "base_hash": _hash(source),
        "step": str(step),
    }
    _check_target(folder)
    with files.replacing(folder) as draft:
        draft.mkdir()
        write_file(draft / PROJECTOR_FILE, layout, tensors.values(), about)


def export_efuf(source: Source, params: Tree, folder: Path, *, step: int, settings: dict[str, Any]) -> None:
    """Writes `folder`/step_%06d.pth and `folder`/config.json as EFUF does.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters.
      folder: the new folder; it appears when it is whole, and replaces an earlier export.
      step: of the checkpoint.
      settings: of the run; those that are numbers, texts or truth values are written.

    Raises:
      UserError: a parameter that the base lacks or that has another shape; or a `folder` of something else.
    """
    import torch  # takes seconds, and only this form needs it

    state = {
        original.written_name(name, None): torch.from_numpy(np.array(value, np.float32, order="C"))
        for name, value in tuned_tensors(source, params).items()
    }
    plain = {key: value for key, value in settings.items() if isinstance(value, int | float | str | None)}
    about = {"base": source.folder.name, "base_hash": _hash(source), "step": step}
    _check_target(folder)
    with files.replacing(folder) as draft:
        draft.mkdir()
        torch.save(state, draft / EFUF_FILE.format(step))
        files.write_json(draft / "config.json", plain | about)


def load_tuned(file: Path, source: Source, trainable: str = r"projector/.*") -> Tree:
    """Reads tuned tensors for a base model: either form above, or a file of EFUF's.

    Args:
      file: .safetensors, or a torch state dict. EFUF's hold the model's buffers too, which are ignored.
      source: the base model.
      trainable: regular expression on '/'-joined paths; exactly these parameters have to be in the file.

    Returns:
      Nested dictionary of float32 arrays, like `LoadedLlava.params`.

    Raises:
      UserError: lists every tensor that is missing, unexpected or mis-shaped.
    """
    _, shapes = abstract(source.config)
    chosen = trainable_paths(shapes, trainable, at_most=1.0)
    table = [row for row in rows(source.config) if row.path in chosen]
    file = Path(file)
    tensors = read_header(file)[0] if file.suffix == ".safetensors" else torch_pickle.read_file(file)
    weights = {name: tensor for name, tensor in tensors.items() if not is_buffer(name)}
    found = _by_hub_name(file, weights, source, table)
    misshaped = [
        f"{found[name].name} is {list(found[name].shape)}, need {list(shape)}"
        for row in table
        for name in row.names()
        if found[name].shape != (shape := row.hub_shape(shapes[row.path].shape))
    ]
    if misshaped:
        raise UserError(f"{file}: does not fit {source.folder}; mis-shaped: {', '.join(misshaped)}")
    return unflatten({row.path: _assembled(row, found) for row in table})


def _hash(source: Source) -> str:
    return content_hash(source.config, source.tensors)


def _by_hub_name(
    file: Path, tensors: dict[str, Tensor], source: Source, table: list[Row]
) -> dict[str, Tensor]:
    """The tensors that the table asks for; which of the three namings holds is seen by the file's names."""
    names = [name for row in table for name in row.names()]
    namings = (source.written_name, lambda name: original.written_name(name, None), lambda name: name)
    tried = [{naming(name): name for name in names} for naming in namings]
    best = max(tried, key=lambda naming: len(naming.keys() & tensors.keys()))
    missing, unexpected = [sorted(best.keys() - tensors.keys()), sorted(tensors.keys() - best.keys())]
    problems = (("missing", missing), ("unexpected", unexpected))
    wrong = [f"{kind}: {', '.join(there)}" for kind, there in problems if there]
    if wrong:
        raise UserError(f"{file}: does not fit {source.folder}; {'; '.join(wrong)}")
    return {name: tensors[called] for called, name in best.items()}


def _assembled(row: Row, found: dict[str, Tensor]) -> np.ndarray:
    layers = [found[name].map().transpose(row.axes).astype(np.float32) for name in row.names()]
    return np.stack(layers) if row.layers else np.ascontiguousarray(layers[0])


def _check_target(folder: Path) -> None:
    folder = Path(folder)
    is_own = folder.is_dir() and all(_OWN_FILES.fullmatch(path.name) for path in folder.iterdir())
    if folder.exists() and not is_own:
        raise UserError(f"{folder}: exists and is no such export; name another folder, or remove it")
