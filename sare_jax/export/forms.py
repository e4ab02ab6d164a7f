"""Writes tuned weights in one of a family's forms, and reads them back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sare_jax.extensions import resolve
from sare_jax.models.interface import ExportForm, Source
from sare_jax.models.shared.partition import Tree


def export_form(source: Source, form: str) -> ExportForm:
    """An export form: a short name in the family's `exports`, or `module:name` of any other.

    Raises:
      UserError: there is no form of that name.
    """
    return resolve(form, source.family.exports, "config.export.form")


def export_model(
    source: Source, params: Tree, folder: Path, form: str, *, step: int, settings: Mapping[str, Any]
) -> None:
    """Writes tuned parameters.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters.
      folder: the new folder; it appears when it is whole, and replaces an earlier export.
      form: see `export_form`.
      step: optimizer step at which the checkpoint was saved.
      settings: the run's training settings by name, as the checkpoint holds them.

    Raises:
      UserError: there is no such form, or the form refuses the parameters or the folder.
    """
    export_form(source, form).write(source, params, folder, step, settings)


def verify(source: Source, params: Tree, folder: Path, form: str, *, step: int) -> str:
    """Reads an export back; arguments as in `export_model`.

    Returns:
      What differs from the base, in words.

    Raises:
      UserError: other tensors than the tuned ones differ, or the tuned ones are not `params`.
    """
    return export_form(source, form).verify(source, params, folder, step)
