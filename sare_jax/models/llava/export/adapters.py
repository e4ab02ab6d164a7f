"""LoRA adapters in PEFT's layout, for transformers and peft to put beside llava-hf's model.

`adapter_model.safetensors` names tensors as transformers 5 names its modules. The run's projector, which was
unlearnt and perhaps trained beside the adapters, lies in the same file, as PEFT's `modules_to_save`: without
it the adapters would belong to another model.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.export.tensors import tuned_tensors
from sare_jax.export.tuned import about_base, require_own_folder
from sare_jax.models.interface import ExportForm
from sare_jax.models.llava.names import in_memory
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.shared import lora
from sare_jax.models.shared.partition import Tree
from sare_jax.models.shared.safetensors_io import read_header, write_file

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PROJECTOR = "multi_modal_projector"
_MEMBERS = {"a": "lora_A", "b": "lora_B"}


def export_adapters(
    source: LlavaSource, params: Tree, folder: Path, step: int, settings: Mapping[str, Any]
) -> None:
    """Writes both files, float32.

    Args:
      source: the base model, which adapter_config.json names.
      params: nested dictionary of adapters, and of the projector beside them.
      folder: the new folder; it appears when it is whole, and replaces an earlier export.
      step: optimizer step at which the checkpoint was saved; the header names it.
      settings: not used.

    Raises:
      UserError: there are no adapters; something other than the projector was tuned beside them; or `folder`
        holds other files.
    """
    del settings
    tensors = _tensors(source, params)
    layout = [(name, value.dtype, value.shape) for name, value in tensors.items()]
    require_own_folder(Path(folder), r"adapter_model\.safetensors|adapter_config\.json")
    with files.replacing(folder) as draft:
        draft.mkdir()
        header = {"format": "pt", **about_base(source), "step": str(step)}
        write_file(draft / WEIGHTS, layout, tensors.values(), header)
        config = json.dumps(_config(source, params), indent=2)
        (draft / CONFIG).write_text(config + "\n", encoding="utf-8")


def verify_adapters(source: LlavaSource, params: Tree, folder: Path, step: int) -> str:
    """Reads the weights back.

    Raises:
      UserError: a tensor is not as it was given.
    """
    del step
    tensors, (there, _) = _tensors(source, params), read_header(folder / WEIGHTS)
    wrong = sorted(there.keys() ^ tensors.keys()) or [
        name for name, value in tensors.items() if not np.array_equal(there[name].map(), value)
    ]
    if wrong:
        raise UserError(f"{folder / WEIGHTS}: {', '.join(wrong[:10])} are not as they were written")
    count = sum(value.size for value in tensors.values())
    return f"{folder}: {len(tensors)} tensors, {count:,} parameters, read back and equal"


def _tensors(source: LlavaSource, params: Tree) -> dict[str, np.ndarray]:
    """PEFT's name → array."""
    own, adapters = lora.split(params)
    if not adapters:
        raise UserError("config.export.form: peft holds LoRA adapters, and these parameters have none")
    tensors = {}
    table = {entry.path: entry for entry in source.family.entries(source.config)}
    for path, members in lora.by_layer(adapters).items():
        for ours, theirs in _MEMBERS.items():
            for name, layer in zip(table[f"{path}/kernel"].names(), np.asarray(members[ours]), strict=True):
                module = in_memory(name).removesuffix(".weight")
                tensors[f"base_model.model.{module}.{theirs}.weight"] = np.ascontiguousarray(layer.T)
    for name, value in tuned_tensors(source, own).items():
        if not name.startswith(_PROJECTOR):
            raise UserError(
                f"config.export.form: {name} was tuned beside the adapters, which peft cannot hold"
            )
        tensors[f"base_model.model.{in_memory(name)}"] = np.array(value, np.float32, order="C")
    return tensors


def _config(source: LlavaSource, params: Tree) -> dict[str, Any]:
    """What PEFT needs to know; a regular expression keeps it from the vision tower's layers."""
    own, adapters = lora.split(params)
    layers = lora.by_layer(adapters)
    table = {entry.path: entry for entry in source.family.entries(source.config)}
    modules = sorted({table[f"{path}/kernel"].name.split(".")[-2] for path in layers})
    (rank,) = {int(members["a"].shape[-1]) for members in layers.values()}
    (scale,) = {float(value) for members in layers.values() for value in np.asarray(members["scale"])}
    return {
        "base_model_name_or_path": str(source.folder),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": scale * rank,
        "lora_dropout": 0.0,
        "modules_to_save": [_PROJECTOR] if own else None,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": rf".*language_model.*\.({'|'.join(modules)})",
        "task_type": "CAUSAL_LM",
    }


PEFT = ExportForm(export_adapters, verify_adapters)
