"""Tuned weights for others: a Hugging Face folder, or the tuned tensors alone."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from sare_jax.errors import UserError
from sare_jax.export.differences import differences
from sare_jax.export.folder import export_folder
from sare_jax.export.tensors import tuned_tensors
from sare_jax.export.tuned import EFUF_FILE, PROJECTOR_FILE, export_efuf, export_projector, load_tuned
from sare_jax.models.llava.source import Source
from sare_jax.models.shared.partition import Tree, flatten

FORMS = ("folder", "projector", "efuf")


def export_model(
    source: Source, params: Tree, folder: Path, form: str, *, step: int, settings: dict[str, Any]
) -> None:
    """Writes tuned parameters in one of the three forms.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters.
      folder: the new folder; it appears when it is whole, and replaces an earlier export.
      form: of `FORMS`: "folder" is the whole model (`export_folder`), "projector" the tuned tensors as
        safetensors (`export_projector`), "efuf" the same as EFUF's code saves them (`export_efuf`).
      step: of the checkpoint.
      settings: of the run; written beside an EFUF file.

    Raises:
      UserError: what the three functions say.
    """
    match form:
        case "folder":
            export_folder(source, params, folder)
        case "projector":
            export_projector(source, params, folder, step=step)
        case "efuf":
            export_efuf(source, params, folder, step=step, settings=settings)
        case _:
            raise ValueError(f"no form is called {form!r}")


def verify(source: Source, params: Tree, folder: Path, form: str, *, step: int) -> str:
    """Reads an export back; arguments as in `export_model`.

    Returns:
      What differs from the base, for people.

    Raises:
      UserError: something else than the tuned tensors differs, or they are not those that were given.
    """
    if form == "folder":
        found = differences(source, folder)
        tuned = tuned_tensors(source, params).keys()
        if wrong := sorted(found.changed.keys() - tuned):
            raise UserError(f"{folder}: {', '.join(wrong)} differ from {source.folder} and were not tuned")
        return found.text()
    file = folder / (PROJECTOR_FILE if form == "projector" else EFUF_FILE.format(step))
    paths = flatten(params)
    again = flatten(load_tuned(file, source, "|".join(paths)))
    if wrong := [path for path, value in paths.items() if not np.array_equal(again[path], value)]:
        raise UserError(f"{file}: {', '.join(wrong)} are not as they were written")
    count = sum(int(value.size) for value in jax.tree.leaves(params))
    return f"{file}: {len(tuned_tensors(source, params))} tensors, {count:,} parameters, read back and equal"


__all__ = [
    "FORMS",
    "differences",
    "export_efuf",
    "export_folder",
    "export_model",
    "export_projector",
    "load_tuned",
    "verify",
]
