"""The one table between this project's parameters of a Qwen2.5-VL and their Hugging Face names.

The names are those of transformers 5; published files call the same tensors `visual.…` and `model.layers.…`.
"""

import re

from sare_jax.models.qwen2_5_vl.config import Qwen25VLConfig
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.qwen_vl.names import PATCH_AXES, TEXT, TOWER, VECTOR, linear, text_entries

_LAYER = {
    "qkv": "attn.qkv",
    "out": "attn.proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_PUBLISHED_TOWER, _PUBLISHED_TEXT = "visual.", "model."


def entries(config: Qwen25VLConfig) -> list[Entry]:
    """The table for a model of this shape, every parameter once."""
    layers, path, name = config.vision.num_layers, "vision_tower/layers", f"{TOWER}blocks.{{}}"
    table = [Entry("vision_tower/patch_kernel", f"{TOWER}patch_embed.proj.weight", PATCH_AXES)]
    for norm in ("norm_1", "norm_2"):
        theirs = f"{name}.{norm.replace('_', '')}.weight"
        table.append(Entry(f"{path}/{norm}/scale", theirs, VECTOR, layers))
    for own, theirs in _LAYER.items():
        table += linear(f"{path}/{own}", f"{name}.{theirs}", layers)
    table.append(Entry("merger/norm/scale", f"{TOWER}merger.ln_q.weight", VECTOR))
    table += linear("merger/fc_1", f"{TOWER}merger.mlp.0")
    table += linear("merger/fc_2", f"{TOWER}merger.mlp.2")
    on_heads = {f"on_{part}/bias": f"self_attn.{part}_proj.bias" for part in "qkv"}
    return table + text_entries(config.text, on_heads)


def hub_name(name: str) -> str:
    """The name in transformers 5 of a tensor that a file calls `name`, in either form."""
    name = re.sub(r"^visual\.", TOWER, name)
    return re.sub(r"^model\.(?!language_model\.|visual\.)", TEXT, name)


def published_name(name: str) -> str:
    """The name in published files of a tensor that transformers 5 calls `name`."""
    if name.startswith(TOWER):
        return _PUBLISHED_TOWER + name.removeprefix(TOWER)
    return name.replace(TEXT, _PUBLISHED_TEXT, 1) if name.startswith(TEXT) else name
