"""The one table between this project's parameters of a Qwen3-VL and their Hugging Face names."""

from sare_jax.models.qwen3_vl.config import Qwen3VLConfig
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.qwen_vl.names import AS_IS, PATCH_AXES, TOWER, VECTOR, linear, norm, text_entries

_LAYER = {"qkv": "attn.qkv", "out": "attn.proj", "fc_1": "mlp.linear_fc1", "fc_2": "mlp.linear_fc2"}


def entries(config: Qwen3VLConfig) -> list[Entry]:
    """The table for a model of this shape, every parameter once."""
    layers, path, name = config.vision.num_layers, "vision_tower/layers", f"{TOWER}blocks.{{}}"
    table = [
        Entry("vision_tower/patch_kernel", f"{TOWER}patch_embed.proj.weight", PATCH_AXES),
        Entry("vision_tower/patch_bias", f"{TOWER}patch_embed.proj.bias", VECTOR),
        Entry("vision_tower/positions", f"{TOWER}pos_embed.weight", AS_IS),
        *norm(f"{path}/norm_1", f"{name}.norm1", layers),
        *norm(f"{path}/norm_2", f"{name}.norm2", layers),
    ]
    for own, theirs in _LAYER.items():
        table += linear(f"{path}/{own}", f"{name}.{theirs}", layers)
    table += _merger("merger", f"{TOWER}merger", 0)
    table += _merger("deepstack", f"{TOWER}deepstack_merger_list.{{}}", len(config.vision.taps))
    on_heads = {"on_q/scale": "self_attn.q_norm.weight", "on_k/scale": "self_attn.k_norm.weight"}
    return table + text_entries(config.text, on_heads)


def _merger(path: str, name: str, count: int) -> list[Entry]:
    parts = (linear(f"{path}/{own}", f"{name}.linear_{theirs}", count) for own, theirs in _FC)
    return [*norm(f"{path}/norm", f"{name}.norm", count), *(entry for part in parts for entry in part)]


_FC = (("fc_1", "fc1"), ("fc_2", "fc2"))
