"""The tuned layer in the form that MiniGPT-4 is published in: a torch file of tensors under `model`.

MiniGPT-4's own code reads it, and so does `model.files.pretrained` here; the same tensors lie beside it as
safetensors.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.export.tensors import stored, tuned_tensors
from sare_jax.export.tuned import about_base, require_own_folder
from sare_jax.models.interface import ExportForm
from sare_jax.models.minigpt4.names import PROJECTOR
from sare_jax.models.minigpt4.source import INSIDE, MiniGpt4Source, read_part
from sare_jax.models.shared import torch_pickle
from sare_jax.models.shared.partition import Tree
from sare_jax.models.shared.safetensors_io import write_file

TORCH_FILE, SAFETENSORS_FILE = "pretrained_minigpt4.pth", "pretrained_minigpt4.safetensors"
_FILES = (TORCH_FILE, SAFETENSORS_FILE, "config.json")


def export_published(
    source: MiniGpt4Source, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]
) -> None:
    """Writes `folder`: both files, and config.json with the run's settings and the base's name.

    Args:
      source: the base model, whose other tensors of the same file are kept, to the byte.
      params: nested dictionary of the tuned parameters.
      folder: the new folder; it appears when it is whole, and replaces an earlier export.
      step: optimizer step at which the checkpoint was saved.
      settings: the run's settings by name; those that are numbers, texts or truth values are written.

    Raises:
      UserError: parameters other than `llama_proj` were tuned; the base lacks a tuned tensor or has it in
        another shape; or `folder` holds files that no export wrote.
    """
    tensors = _tensors(source, params)
    plain = {key: value for key, value in settings.items() if isinstance(value, int | float | str | None)}
    about = about_base(source)
    require_own_folder(Path(folder), "|".join(map(re.escape, _FILES)))
    with files.replacing(folder) as draft:
        draft.mkdir()
        torch_pickle.write_file(draft / TORCH_FILE, tensors, INSIDE)
        layout = [(name, value.dtype, value.shape) for name, value in tensors.items()]
        header = {"format": "pt", **about, "step": str(step)}
        write_file(draft / SAFETENSORS_FILE, layout, tensors.values(), header)
        files.write_json(draft / "config.json", plain | about | {"step": step})


def verify_published(source: MiniGpt4Source, params: Tree, folder: Path, step: int) -> str:
    """Reads both files back.

    Raises:
      UserError: a tensor is not as it was given.
    """
    del step
    tensors = _tensors(source, params)
    for name in (TORCH_FILE, SAFETENSORS_FILE):
        again = read_part(folder / name, INSIDE)
        wrong = sorted(again.keys() ^ tensors.keys()) or [
            key for key, value in tensors.items() if not np.array_equal(again[key].map(), value)
        ]
        if wrong:
            raise UserError(f"{folder / name}: {', '.join(wrong)} are not as they were written")
    count = sum(value.size for name, value in tensors.items() if name.startswith(PROJECTOR))
    return f"{folder}: {len(tensors)} tensors, {count:,} tuned parameters, read back and equal in both files"


def _tensors(source: MiniGpt4Source, params: Tree) -> dict[str, np.ndarray]:
    """Published name → array: the base's whole `pretrained` file in its order, the tuned tensors replaced."""
    tuned = tuned_tensors(source, params)
    if others := [name for name in tuned if not name.startswith(PROJECTOR)]:
        raise UserError(
            f"{source}: {others[0]} was tuned too, which lies in another published file; the form has "
            "llama_proj alone"
        )
    return {
        name: stored(tuned[name], tensor.dtype) if name in tuned else tensor.map()
        for name, tensor in read_part(source.pretrained, INSIDE).items()
    }


PUBLISHED = ExportForm(write=export_published, verify=verify_published)
