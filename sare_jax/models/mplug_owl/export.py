"""The export forms of mPLUG-Owl, by the names in `FAMILY.exports`.

`published` is a whole folder as the model is published, with pytorch_model.bin, `folder` the same with
safetensors; `efuf` and `abstractor` hold the tuned tensors alone, as a torch state dict such as EFUF saves
or as safetensors.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sare_jax.export.folder import copy_others, verify_folder, write_folder
from sare_jax.export.shards import write_torch
from sare_jax.export.tuned import export_state, export_tensors, verify_tuned
from sare_jax.models.interface import ExportForm
from sare_jax.models.mplug_owl.source import OwlSource
from sare_jax.models.shared.partition import Tree

ABSTRACTOR_FILE, EFUF_FILE = "abstractor.safetensors", "step_{:06d}.pth"
_OWN_FILES = r"abstractor\.safetensors|step_\d+\.pth|config\.json"


def _published(source: OwlSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
    del step, settings
    write_folder(source, params, folder, others=partial(copy_others, source.folder), write=write_torch)


def _folder(source: OwlSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
    del step, settings
    write_folder(source, params, folder, others=partial(copy_others, source.folder))


def _efuf(source: OwlSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
    file = folder / EFUF_FILE.format(step)
    export_state(source, params, file, step=step, settings=settings, own=_OWN_FILES)


def _abstractor(
    source: OwlSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]
) -> None:
    del settings
    export_tensors(source, params, folder / ABSTRACTOR_FILE, step=step, own=_OWN_FILES)


def _verify_efuf(source: OwlSource, params: Tree, folder: Path, step: int) -> str:
    return verify_tuned(folder / EFUF_FILE.format(step), source, params)


def _verify_abstractor(source: OwlSource, params: Tree, folder: Path, step: int) -> str:
    del step
    return verify_tuned(folder / ABSTRACTOR_FILE, source, params)


PUBLISHED = ExportForm(write=_published, verify=verify_folder)
FOLDER = ExportForm(write=_folder, verify=verify_folder)
EFUF = ExportForm(write=_efuf, verify=_verify_efuf)
ABSTRACTOR = ExportForm(write=_abstractor, verify=_verify_abstractor)
