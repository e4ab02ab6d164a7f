"""Names and shapes of the published 7B models, written down here from what is published, against ours.

Files of the full shape without the weights: safetensors with holes, and torch files of one number that is
spread over the shape.
"""

import json
import math
import struct

import pytest
import torch

from sare_jax.errors import UserError
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.llava.names import entries
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import abstract, check_names
from sare_jax.models.shared.partition import trainable_paths
from sare_jax.models.shared.target import here
from tests.models.llava.test_config import HUB

WIDTH, MLP, TOWER_WIDTH, TOWER_MLP = 4096, 11008, 1024, 4096
TRAINABLE = 4096 * 1024 + 4096 + 4096 * 4096 + 4096
# The tower's last block and final norm, which lie behind the hidden state that is read.
BLOCK = 4 * (1024 * 1024 + 1024) + (1024 * 4096 + 4096) + (4096 * 1024 + 1024) + 4 * 1024
BEHIND = BLOCK + 2 * 1024

ORIGINAL = {
    "_name_or_path": "llava-v1.5-7b",
    "architectures": ["LlavaLlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "image_aspect_ratio": "pad",
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "mm_hidden_size": 1024,
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "model_type": "llava",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "use_mm_proj": True,
    "vocab_size": 32000,
}
SHAREGPT4V = ORIGINAL | {
    "_name_or_path": "ShareGPT4V-7B",
    "architectures": ["Share4VLlamaForCausalLM"],
    "mm_vision_tower": "Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12",
    "model_type": "share4v",
    "tune_entire_model": False,
    "tune_vision_tower": False,
}
CLIP_VISION = {
    "model_type": "clip_vision_model",
    "hidden_act": "quick_gelu",
    "hidden_size": 1024,
    "image_size": 336,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-05,
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 24,
    "patch_size": 14,
    "projection_dim": 768,
}
CLIP = {
    "_name_or_path": "openai/clip-vit-large-patch14-336",
    "architectures": ["CLIPModel"],
    "model_type": "clip",
    "text_config": {"hidden_size": 768, "num_attention_heads": 12, "model_type": "clip_text_model"},
    "vision_config": CLIP_VISION,
}


def language(prefix: str, head: str, vocabulary: int) -> dict[str, tuple[int, ...]]:
    square = (WIDTH, WIDTH)
    table = {
        f"{prefix}embed_tokens.weight": (vocabulary, WIDTH),
        f"{prefix}norm.weight": (WIDTH,),
        f"{head}.weight": (vocabulary, WIDTH),
    }
    for layer in range(32):
        table |= {f"{prefix}layers.{layer}.self_attn.{part}_proj.weight": square for part in "qkvo"}
        table |= {f"{prefix}layers.{layer}.mlp.{part}_proj.weight": (MLP, WIDTH) for part in ("gate", "up")}
        table[f"{prefix}layers.{layer}.mlp.down_proj.weight"] = (WIDTH, MLP)
        table[f"{prefix}layers.{layer}.input_layernorm.weight"] = (WIDTH,)
        table[f"{prefix}layers.{layer}.post_attention_layernorm.weight"] = (WIDTH,)
    return table


def projector(first: str, second: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{first}.weight": (WIDTH, TOWER_WIDTH),
        f"{first}.bias": (WIDTH,),
        f"{second}.weight": (WIDTH, WIDTH),
        f"{second}.bias": (WIDTH,),
    }


def tower(prefix: str) -> dict[str, tuple[int, ...]]:
    table = {
        f"{prefix}embeddings.class_embedding": (TOWER_WIDTH,),
        f"{prefix}embeddings.patch_embedding.weight": (TOWER_WIDTH, 3, 14, 14),
        f"{prefix}embeddings.position_embedding.weight": (577, TOWER_WIDTH),
    }
    norms = [f"{prefix}pre_layrnorm", f"{prefix}post_layernorm"]
    for layer in range(24):
        block = f"{prefix}encoder.layers.{layer}."
        norms += [f"{block}layer_norm1", f"{block}layer_norm2"]
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            table[f"{block}self_attn.{part}.weight"] = (TOWER_WIDTH, TOWER_WIDTH)
            table[f"{block}self_attn.{part}.bias"] = (TOWER_WIDTH,)
        table[f"{block}mlp.fc1.weight"] = (TOWER_MLP, TOWER_WIDTH)
        table[f"{block}mlp.fc1.bias"] = (TOWER_MLP,)
        table[f"{block}mlp.fc2.weight"] = (TOWER_WIDTH, TOWER_MLP)
        table[f"{block}mlp.fc2.bias"] = (TOWER_WIDTH,)
    return table | {f"{norm}.{leaf}": (TOWER_WIDTH,) for norm in norms for leaf in ("weight", "bias")}


def write_holes(folder, table, count):
    """safetensors shards in half precision whose data is a hole in the file."""
    names, weight_map = list(table), {}
    for number in range(count):
        file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        header, end = {}, 0
        for name in names[number::count]:
            start, end = end, end + 2 * math.prod(table[name])
            header[name] = {"dtype": "F16", "shape": table[name], "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        with (folder / file).open("wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            stream.truncate(8 + len(text) + end)
        weight_map |= dict.fromkeys(header, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_torch(folder, table, count):
    """Torch shards in bfloat16 whose data is a hole in the file."""
    names, weight_map = list(table), {}
    for number in range(count):
        file = f"pytorch_model-{number + 1:05d}-of-{count:05d}.bin"
        part = {name: torch.empty(table[name], dtype=torch.bfloat16) for name in names[number::count]}
        with torch.serialization.skip_data():
            torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def write_hub(folder):
    """llava-hf/llava-1.5-7b-hf."""
    (folder / "config.json").write_text(json.dumps(HUB))
    text = language("language_model.model.", "language_model.lm_head", 32064)
    projection = projector("multi_modal_projector.linear_1", "multi_modal_projector.linear_2")
    table = tower("vision_tower.vision_model.") | projection | text
    write_holes(folder, table, 3)
    return table, {}


def write_llava(folder):
    """liuhaotian/llava-v1.5-7b with openai/clip-vit-large-patch14-336."""
    (folder / "config.json").write_text(json.dumps(ORIGINAL | {"mm_vision_tower": "tower"}))
    table = language("model.", "lm_head", 32000) | projector("model.mm_projector.0", "model.mm_projector.2")
    write_torch(folder, table, 2)
    vision = tower("vision_model.")
    _write_tower(folder, CLIP)
    text = {"text_model.final_layer_norm.bias": (768,), "text_projection.weight": (768, 768)}
    write_holes(folder / "tower", vision | text | {"logit_scale": ()}, 1)
    return table, vision


def write_sharegpt4v(folder):
    """Lin-Chen/ShareGPT4V-7B with its own tower."""
    name = SHAREGPT4V["mm_vision_tower"].split("/")[1]
    (folder / "config.json").write_text(json.dumps(SHAREGPT4V | {"mm_vision_tower": name}))
    table = language("model.", "lm_head", 32000) | projector("model.mm_projector.0", "model.mm_projector.2")
    write_torch(folder, table, 2)
    vision = tower("vision_model.")
    _write_tower(folder, CLIP_VISION | {"_name_or_path": name, "architectures": ["CLIPVisionModel"]}, name)
    write_torch(folder / name, vision, 1)
    return table, vision


def _write_tower(folder, config, name="tower"):
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(config))
    (folder / name / "preprocessor_config.json").write_text("{}")


@pytest.fixture(
    scope="module",
    params=[(write_hub, 7_063_427_072), (write_llava, 7_062_902_784), (write_sharegpt4v, 7_062_902_784)],
    ids=["llava-hf", "llava", "sharegpt4v"],
)
def published(request, tmp_path_factory):
    """A folder, its tensors and those of its tower by the names in the files, and its parameters."""
    write, count = request.param
    folder = tmp_path_factory.mktemp(write.__name__)
    return folder, *write(folder), count


def test_every_name_and_shape_is_the_published_one(published):
    folder, table, vision, count = published
    source = open_llava(folder)
    _, shapes = abstract(FAMILY, source.config, here())
    ours = {
        source.written_name(name): entry.hub_shape(shapes[entry.path].shape)
        for entry in entries(source.config)
        for name in entry.names()
    }
    theirs = table | vision
    assert sum(math.prod(shape) for shape in theirs.values()) == count
    unused = {name for name in theirs if "post_layernorm" in name or ".layers.23." in name}
    unused = {name for name in unused if "vision_model" in name}
    assert ours == {name: shape for name, shape in theirs.items() if name not in unused}
    check_names(source, shapes)


def test_parameters_add_up(published):
    folder, _, _, count = published
    _, shapes = abstract(FAMILY, open_llava(folder).config, here())
    chosen = trainable_paths(shapes, "projector/.*", at_most=0.5)
    assert sum(math.prod(shapes[path].shape) for path in chosen) == TRAINABLE == 20_979_712
    assert sum(math.prod(leaf.shape) for leaf in shapes.values()) == count - BEHIND


def test_sizes_that_the_published_configs_leave_to_defaults(published):
    config = open_llava(published[0]).config
    text, vision = config.text, config.vision
    assert (text.num_layers, text.num_heads, text.num_kv_heads, text.head_size) == (32, 32, 32, 128)
    assert (text.rope_theta, text.eps, text.tied) == (1e4, 1e-5, False)
    assert (vision.num_heads, vision.activation, vision.eps) == (16, "quick_gelu", 1e-5)
    assert (config.num_image_tokens, config.num_vision_layers_run) == (576, 23)
    assert config.image_token_id == 32000


def test_one_name_less_or_more_is_seen(published):
    folder, table, _, _ = published
    source = open_llava(folder)
    _, shapes = abstract(FAMILY, source.config, here())
    name = "language_model.model.layers.31.mlp.up_proj.weight"
    written = source.tensors[name].name
    assert written in table
    tensors = dict(source.tensors)
    tensors["foo"] = tensors.pop(name)
    changed = type(source)(folder, source.form, source.config, tensors, source.tower)
    with pytest.raises(UserError, match=f"missing: {written}; unexpected: {written}$"):
        check_names(changed, shapes)
