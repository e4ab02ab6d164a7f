"""The one table between this project's parameters of a LLaVA and their Hugging Face names.

It is read in both directions. An entry is (path here, name on the hub, axes): the array here is the hub's
tensor with its axes taken in that order, so `axes=(1, 0)` is a transpose. `{}` in a name stands for the
layer; such a tensor fills one slice of a stacked parameter, whose first axis numbers the layers.

The names are those of the hub (transformers 4). transformers 5 calls the same tensors otherwise in memory,
and its files may carry either form; `hub_name` maps both to the hub's.
"""

import re
from collections.abc import Mapping

from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.shared import llama_names
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.llama_names import llama_entries
from sare_jax.models.shared.weight_files import Tensor

_VECTOR, _AS_IS, _SWAP = (0,), (0, 1), (1, 0)
TOWER = "vision_tower.vision_model"
EMBEDDING, HEAD = (f"language_model.{name}" for name in (llama_names.EMBEDDING, llama_names.HEAD))
_VISION = [
    ("patch_kernel", "embeddings.patch_embedding.weight", (2, 3, 1, 0)),
    ("class_token", "embeddings.class_embedding", _VECTOR),
    ("positions", "embeddings.position_embedding.weight", _AS_IS),
    ("pre_norm/scale", "pre_layrnorm.weight", _VECTOR),  # the hub's spelling
    ("pre_norm/bias", "pre_layrnorm.bias", _VECTOR),
]
_VISION_NORMS = {"norm_1": "layer_norm1", "norm_2": "layer_norm2"}
_VISION_LINEARS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "fc_1": "mlp.fc1",
    "fc_2": "mlp.fc2",
}

# Buffers that older files carry. They hold no weights: both follow from the config.
_BUFFERS = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|embeddings\.position_ids)$")
# Parts of the model on the hub, and in the memory of transformers 5.
_PARTS = {
    f"{TOWER}.": "model.vision_tower.",
    "multi_modal_projector.": "model.multi_modal_projector.",
    "language_model.model.": "model.language_model.",
    "language_model.lm_head.": "lm_head.",
}
_IN_MEMORY = (
    (re.compile(r"^model\.language_model\."), "language_model.model."),
    (re.compile(r"^lm_head\."), "language_model.lm_head."),
    (re.compile(r"^model\.(vision_tower|multi_modal_projector)\."), r"\1."),
    (re.compile(r"^vision_tower\.(?!vision_model\.)"), f"{TOWER}."),
)


def entries(config: LlavaConfig) -> list[Entry]:
    """The table for a model of this shape, every parameter once."""
    table = [Entry(f"vision_tower/{path}", f"{TOWER}.{name}", axes) for path, name, axes in _VISION]
    table += _vision_layers(config.num_vision_layers_run)
    for part in ("linear_1", "linear_2"):
        table += _biased(f"projector/{part}", f"multi_modal_projector.{part}", 0)
    return table + llama_entries(config.text, "language_model.")


def hub_name(name: str) -> str:
    """The hub's name of a tensor that a file calls `name`, in either form."""
    for pattern, replacement in _IN_MEMORY:
        name = pattern.sub(replacement, name)
    return name


def written_name(name: str, tensors: Mapping[str, Tensor]) -> str:
    """The name that a tensor would have in files that lack it, by the names of others of the same part.

    Args:
      name: the hub's name of the tensor.
      tensors: hub's name -> tensor, of those that the files have.
    """
    prefix = next(prefix for prefix in _PARTS if name.startswith(prefix))
    for other, tensor in tensors.items():
        rest = other.removeprefix(prefix)
        if rest != other and tensor.name.endswith(rest):
            return tensor.name.removesuffix(rest) + name.removeprefix(prefix)
    by_modules = any(tensor.name.startswith("model.") for tensor in tensors.values())
    return in_memory(name) if by_modules else name


def in_memory(name: str) -> str:
    """The name in the memory of transformers 5 of a tensor that the hub calls `name`."""
    prefix = next(prefix for prefix in _PARTS if name.startswith(prefix))
    return _PARTS[prefix] + name.removeprefix(prefix)


def is_buffer(name: str) -> bool:
    """Whether a hub name is one of the buffers that hold no weights."""
    return bool(_BUFFERS.match(name))


def is_unused(name: str, config: LlavaConfig) -> bool:
    """Whether a hub name is known and of no use here.

    These are buffers, and the part of the vision tower behind the hidden state that is read.
    """
    if is_buffer(name) or name.startswith(f"{TOWER}.post_layernorm."):
        return True
    layer = re.match(rf"{re.escape(TOWER)}\.encoder\.layers\.(\d{{1,9}})\.", name)
    return layer is not None and config.num_vision_layers_run <= int(layer[1]) < config.vision.num_layers


def _vision_layers(layers: int) -> list[Entry]:
    prefix, path = f"{TOWER}.encoder.layers.{{}}", "vision_tower/layers"
    table = []
    for own, theirs in _VISION_NORMS.items():
        table.append(Entry(f"{path}/{own}/scale", f"{prefix}.{theirs}.weight", _VECTOR, layers))
        table.append(Entry(f"{path}/{own}/bias", f"{prefix}.{theirs}.bias", _VECTOR, layers))
    for own, theirs in _VISION_LINEARS.items():
        table += _biased(f"{path}/{own}", f"{prefix}.{theirs}", layers)
    return table


def _biased(path: str, name: str, layers: int) -> list[Entry]:
    return [
        Entry(f"{path}/kernel", f"{name}.weight", _SWAP, layers),
        Entry(f"{path}/bias", f"{name}.bias", _VECTOR, layers),
    ]
