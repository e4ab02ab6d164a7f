"""The export forms of Qwen2.5-VL, by the names in `FAMILY.exports`.

`folder` is a whole folder that transformers loads; `merger` holds the tuned tensors alone, as safetensors.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sare_jax.export.folder import copy_others, verify_folder, write_folder
from sare_jax.export.tuned import export_tensors, verify_tuned
from sare_jax.models.interface import ExportForm
from sare_jax.models.shared.partition import Tree
from sare_jax.models.shared.qwen_vl import in_transformers
from sare_jax.models.shared.qwen_vl.source import QwenSource

MERGER_FILE = "merger.safetensors"
_OWN_FILES = r"merger\.safetensors"


def _folder(source: QwenSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
    del step, settings
    write_folder(source, params, folder, others=partial(copy_others, source.folder))


def _merger(source: QwenSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
    del settings
    export_tensors(source, params, folder / MERGER_FILE, step=step, own=_OWN_FILES)


def _verify_merger(source: QwenSource, params: Tree, folder: Path, step: int) -> str:
    del step
    return verify_tuned(folder / MERGER_FILE, source, params)


FOLDER = ExportForm(_folder, verify_folder, in_transformers.answers)
MERGER = ExportForm(_merger, _verify_merger)
