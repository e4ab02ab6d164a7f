"""Tuned weights for others, in the forms that the model's family knows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sare_jax.export.differences import differences
from sare_jax.extensions import resolve
from sare_jax.models.interface import ExportForm, Source
from sare_jax.models.shared.partition import Tree


def export_form(source: Source, form: str) -> ExportForm:
    """The form of that name, of the model's family, or another's as `module:name`.

    Raises:
      UserError: there is none.
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
      settings: what the run was trained with, as the checkpoint holds it.

    Raises:
      UserError: no such form, or what the form's function says.
    """
    export_form(source, form).write(source, params, folder, step, settings)


def verify(source: Source, params: Tree, folder: Path, form: str, *, step: int) -> str:
    """Reads an export back; arguments as in `export_model`.

    Returns:
      What differs from the base, for people.

    Raises:
      UserError: something else than the tuned tensors differs, or they are not those that were given.
    """
    return export_form(source, form).verify(source, params, folder, step)


__all__ = ["differences", "export_form", "export_model", "verify"]
