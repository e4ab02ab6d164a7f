"""The one table between this project's parameters of a MiniGPT-4 and its own code's names (protocols 7.4).

Published files hold parts of these names: eva_vit_g.pth those of the tower without `visual_encoder.`, the
LLaMA's folder its own without `llama_model.`.
"""

import re

from sare_jax.models.minigpt4.config import MiniGpt4Config
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.llama_names import is_llama_buffer, llama_entries

TOWER, LLAMA, PROJECTOR, VISION_NORM = "visual_encoder.", "llama_model.", "llama_proj.", "ln_vision."
QUERIES, BERT = "query_tokens", "Qformer.bert."
# `intermediate` and `output` are a Q-Former layer's MLP for text, beside the one for queries.
_LAYER = re.compile(
    rf"((?P<tower>{re.escape(TOWER)}blocks)|{re.escape(BERT)}encoder\.layer)\.(?P<number>\d{{1,9}})\."
    r"(?!intermediate\.|output\.)"
)
_VECTOR, _SWAP, _AS_IS = (0,), (1, 0), (0, 1, 2)
# Beside a LLaMA in bfloat16: matrices as they were published, norms as MiniGPT-4's autocast computes them.
_MATRIX, _EXACT = "float16", "float32"


def entries(config: MiniGpt4Config) -> list[Entry]:
    """The table for a model of this shape, every parameter once."""
    table = _tower(config.vision.num_layers)
    table += _norm("vision_norm", VISION_NORM.rstrip("."))
    if config.qformer:
        table += _qformer(config.qformer.num_layers // 2)
    table += [
        Entry("llama_proj/kernel", f"{PROJECTOR}weight", _SWAP),
        Entry("llama_proj/bias", f"{PROJECTOR}bias", _VECTOR),
    ]
    return table + llama_entries(config.text, LLAMA)


def is_buffer(name: str) -> bool:
    """Whether a name is one of the buffers that hold no weights."""
    return is_llama_buffer(name)


def is_unused(name: str, config: MiniGpt4Config) -> bool:
    """Whether a name of the LLaMA's folder is known and of no use here.

    The files beside that folder are read for the names of the table alone.
    """
    del config
    return is_buffer(name)


def is_of_a_layer(name: str, config: MiniGpt4Config) -> bool:
    """Whether a name is that of a tensor of a layer that is run, the Q-Former's layers for text left out."""
    match = _LAYER.match(name)
    if not match:
        return False
    qformer = config.qformer.num_layers if config.qformer else 0
    return int(match["number"]) < (config.vision.num_layers if match["tower"] else qformer)


def _tower(layers: int) -> list[Entry]:
    block, path = f"{TOWER}blocks.{{}}", "vision_tower/layers"
    table = [
        Entry("vision_tower/patch_kernel", f"{TOWER}patch_embed.proj.weight", (2, 3, 1, 0), beside=_MATRIX),
        Entry("vision_tower/patch_bias", f"{TOWER}patch_embed.proj.bias", _VECTOR, beside=_MATRIX),
        Entry("vision_tower/class_token", f"{TOWER}cls_token", _AS_IS, beside=_EXACT),
        Entry("vision_tower/positions", f"{TOWER}pos_embed", _AS_IS, beside=_EXACT),
        Entry(f"{path}/qkv/kernel", f"{block}.attn.qkv.weight", _SWAP, layers, beside=_MATRIX),
        Entry(f"{path}/q_bias", f"{block}.attn.q_bias", _VECTOR, layers, beside=_MATRIX),
        Entry(f"{path}/v_bias", f"{block}.attn.v_bias", _VECTOR, layers, beside=_MATRIX),
    ]
    for own, theirs in {"out": "attn.proj", "fc_1": "mlp.fc1", "fc_2": "mlp.fc2"}.items():
        table += _biased(f"{path}/{own}", f"{block}.{theirs}", layers)
    for own, theirs in {"norm_1": "norm1", "norm_2": "norm2"}.items():
        table += _norm(f"{path}/{own}", f"{block}.{theirs}", layers)
    return table


def _qformer(pairs: int) -> list[Entry]:
    layer, path = f"{BERT}encoder.layer.{{}}", "qformer/pairs"
    table = [Entry("qformer/queries", QUERIES, _AS_IS, beside=_EXACT)]
    table += _norm("qformer/norm", f"{BERT}embeddings.LayerNorm")
    table += _attention(f"{path}/image_attention", f"{layer}.crossattention", pairs, 0)
    for first in (0, 1):
        table += _attention(f"{path}/attention_{first + 1}", f"{layer}.attention", pairs, first)
        mlp, made = f"{path}/mlp_{first + 1}", f"{layer}.output_query"
        table += _biased(f"{mlp}/fc_1", f"{layer}.intermediate_query.dense", pairs, first, 2)
        table += _biased(f"{mlp}/fc_2", f"{made}.dense", pairs, first, 2)
        table += _norm(f"{mlp}/norm", f"{made}.LayerNorm", pairs, first, 2)
    return table


def _attention(path: str, name: str, pairs: int, first: int) -> list[Entry]:
    table = []
    for part in ("query", "key", "value"):
        table += _biased(f"{path}/{part}", f"{name}.self.{part}", pairs, first, 2)
    table += _biased(f"{path}/out", f"{name}.output.dense", pairs, first, 2)
    return table + _norm(f"{path}/norm", f"{name}.output.LayerNorm", pairs, first, 2)


def _biased(path: str, name: str, layers: int, first: int = 0, every: int = 1) -> list[Entry]:
    return [
        Entry(f"{path}/kernel", f"{name}.weight", _SWAP, layers, first, every, _MATRIX),
        Entry(f"{path}/bias", f"{name}.bias", _VECTOR, layers, first, every, _MATRIX),
    ]


def _norm(path: str, name: str, layers: int = 0, first: int = 0, every: int = 1) -> list[Entry]:
    return [
        Entry(f"{path}/scale", f"{name}.weight", _VECTOR, layers, first, every, _EXACT),
        Entry(f"{path}/bias", f"{name}.bias", _VECTOR, layers, first, every, _EXACT),
    ]
