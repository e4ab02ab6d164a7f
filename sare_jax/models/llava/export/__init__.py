"""The export forms of LLaVA and ShareGPT4V, by the names in `FAMILY.exports`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sare_jax.export.folder import verify_folder
from sare_jax.models.interface import ExportForm
from sare_jax.models.llava.export import in_transformers
from sare_jax.models.llava.export.adapters import PEFT
from sare_jax.models.llava.export.folder import export_folder
from sare_jax.models.llava.export.tuned import export_efuf, export_projector, verify_efuf, verify_projector
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.shared.partition import Tree


def _folder(source: LlavaSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
    del step, settings
    export_folder(source, params, folder)


def _projector(
    source: LlavaSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]
) -> None:
    del settings
    export_projector(source, params, folder, step=step)


def _efuf(source: LlavaSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
    export_efuf(source, params, folder, step=step, settings=settings)


FOLDER = ExportForm(_folder, verify_folder, in_transformers.answers)
PROJECTOR = ExportForm(_projector, verify_projector)
EFUF = ExportForm(_efuf, verify_efuf)

__all__ = ["EFUF", "FOLDER", "PEFT", "PROJECTOR"]
