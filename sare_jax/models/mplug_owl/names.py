"""The one table between this project's parameters of an mPLUG-Owl and their published names."""

from sare_jax.models.mplug_owl.config import OwlConfig
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.llama_names import is_llama_buffer, llama_entries

MLP_WEIGHT = "abstractor.encoder.layers.0.crossattention.output.mlp.w1.weight"
_VECTOR, _SWAP, _AS_IS = (0,), (1, 0), (0, 1, 2)
_TOWER_NORMS = {"norm_1": "input_layernorm", "norm_2": "post_attention_layernorm"}
_TOWER_LINEARS = {
    "qkv": "self_attn.query_key_value",
    "out": "self_attn.dense",
    "fc_1": "mlp.fc1",
    "fc_2": "mlp.fc2",
}
_ABSTRACTOR_NORMS = {
    "query_norm": "norm1",
    "key_norm": "normk",
    "mlp_norm": "output.norm2",
    "inner_norm": "output.mlp.ffn_ln",
}
_ABSTRACTOR_LINEARS = {
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "out": "output.out_proj",
    "gate": "output.mlp.w1",
    "up": "output.mlp.w3",
    "down": "output.mlp.w2",
}


def entries(config: OwlConfig) -> list[Entry]:
    """The table for a model of this shape, every parameter once."""
    stem, tower = "vision_model.embeddings", "vision_tower"
    table = [
        Entry(f"{tower}/patch_kernel", f"{stem}.patch_embed.weight", (2, 3, 1, 0)),
        Entry(f"{tower}/class_token", f"{stem}.cls_token", _AS_IS),
        Entry(f"{tower}/positions", f"{stem}.position_embedding", _AS_IS),
        *_norm(f"{tower}/pre_norm", f"{stem}.pre_layernorm"),
        *_norm(f"{tower}/post_norm", "vision_model.post_layernorm"),
        Entry("abstractor/queries", "query_tokens", _AS_IS),
        *_linear("abstractor/to_text", "abstractor.visual_fc"),
        Entry("abstractor/end", "abstractor.vit_eos", _AS_IS),
    ]
    parts = (
        (f"{tower}/layers", "vision_model.encoder.layers.{}", _TOWER_NORMS, _TOWER_LINEARS, config.vision),
        (
            "abstractor/layers",
            "abstractor.encoder.layers.{}.crossattention",
            _ABSTRACTOR_NORMS,
            _ABSTRACTOR_LINEARS,
            config.abstractor,
        ),
    )
    for path, name, norms, linears, part in parts:
        for own, theirs in norms.items():
            table += _norm(f"{path}/{own}", f"{name}.{theirs}", part.num_layers)
        for own, theirs in linears.items():
            table += _linear(f"{path}/{own}", f"{name}.{theirs}", part.num_layers)
    return table + llama_entries(config.text, "language_model.")


def is_buffer(name: str) -> bool:
    """Whether a name is one of the buffers that hold no weights."""
    return is_llama_buffer(name)


def is_unused(name: str, config: OwlConfig) -> bool:
    """Whether a name is known and of no use here: a buffer."""
    del config
    return is_buffer(name)


def _norm(path: str, name: str, layers: int = 0) -> list[Entry]:
    return [
        Entry(f"{path}/scale", f"{name}.weight", _VECTOR, layers),
        Entry(f"{path}/bias", f"{name}.bias", _VECTOR, layers),
    ]


def _linear(path: str, name: str, layers: int = 0) -> list[Entry]:
    return [
        Entry(f"{path}/kernel", f"{name}.weight", _SWAP, layers),
        Entry(f"{path}/bias", f"{name}.bias", _VECTOR, layers),
    ]
