"""The lines of a name table for a LLaMA: Hugging Face's names, behind a family's prefix."""

import re

from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.entry import Entry

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_VECTOR, _AS_IS, _SWAP = (0,), (0, 1), (1, 0)
_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
_LINEARS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
# Rotary frequencies, which older files carry, follow from the config.
_BUFFER = re.compile(r"(.*\.)?rotary_emb\.inv_freq$")


def llama_entries(config: TextConfig, prefix: str) -> list[Entry]:
    """Embedding table, decoder and head, by their paths in a family's module.

    Args:
      config: shapes of the language model.
      prefix: stands before every name of a LlamaForCausalLM.
    """
    layer, path = f"{prefix}model.layers.{{}}", "language_model/layers"
    table = [Entry("embed/table", f"{prefix}{EMBEDDING}", _AS_IS)]
    for own, theirs in _NORMS.items():
        table.append(Entry(f"{path}/{own}/scale", f"{layer}.{theirs}.weight", _VECTOR, config.num_layers))
    for own, theirs in _LINEARS.items():
        table.append(Entry(f"{path}/{own}/kernel", f"{layer}.{theirs}.weight", _SWAP, config.num_layers))
    table.append(Entry("language_model/norm/scale", f"{prefix}model.norm.weight", _VECTOR))
    if not config.tied:
        table.append(Entry("head/kernel", f"{prefix}{HEAD}", _SWAP))
    return table


def is_llama_buffer(name: str) -> bool:
    """Whether a name is that of a buffer without weights, whatever its prefix."""
    return bool(_BUFFER.match(name))
