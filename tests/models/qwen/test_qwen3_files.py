"""Qwen3-VL's files: names and shapes of the published model, what is refused, and export back."""

import copy
import json

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from sare_jax.errors import UserError
from sare_jax.models.families import find_family, open_source
from sare_jax.models.load import abstract, load_model
from sare_jax.models.qwen3_vl.config import Qwen3VLConfig as Config
from sare_jax.models.qwen3_vl.export import FOLDER, MERGER
from sare_jax.models.qwen3_vl.family import FAMILY
from sare_jax.models.qwen3_vl.published import CONFIGS, PROCESSOR, QWEN3_VL_2B
from sare_jax.models.shared.partition import trainable_paths
from sare_jax.models.shared.target import here
from sare_jax.settings import ModelConfig
from tests.models.qwen.comparing import assert_exported_answers_equal, parts
from tests.models.qwen.tiny import write_qwen3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tied model's folder, and the torch model in it."""
    folder = tmp_path_factory.mktemp("tied")
    return folder, write_qwen3(folder, "tied")


def test_names_and_shapes_are_those_of_the_published_model():
    config, where = FAMILY.config_of(ModelConfig(folder=QWEN3_VL_2B))
    assert where == f"the published config of {QWEN3_VL_2B}"
    _, shapes = abstract(FAMILY, config, here())
    ours = {
        name: entry.hub_shape(shapes[entry.path].shape)
        for entry in FAMILY.entries(config)
        for name in entry.names()
    }
    with torch.device("meta"):
        theirs = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**copy.deepcopy(CONFIGS[QWEN3_VL_2B])))
    state = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    del state["lm_head.weight"]
    assert ours == state
    sizes = {path: int(np.prod(leaf.shape)) for path, leaf in shapes.items()}
    assert sum(sizes.values()) == 2_127_532_032
    for pattern, count in ((FAMILY.trainable, 25_174_016), (r"deepstack/.*", 75_540_480)):
        assert sum(sizes[path] for path in trainable_paths(shapes, pattern, at_most=1.0)) == count
    assert FAMILY.shape(config).num_image_tokens == 16_384
    small = ModelConfig(folder=QWEN3_VL_2B, image_mode="65536-409600")
    assert FAMILY.shape(FAMILY.config_of(small)[0]).num_image_tokens == 400


def test_a_folder_and_a_published_id_are_recognised(model):
    assert find_family(ModelConfig(folder=str(model[0]))) is FAMILY
    assert find_family(ModelConfig(folder=QWEN3_VL_2B)) is FAMILY


def test_a_folder_without_its_weights_has_a_config(tmp_path, model):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((model[0] / name).read_bytes())
    config, _ = FAMILY.config_of(ModelConfig(folder=str(tmp_path)))
    assert config == open_source(model[0]).config


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("text_config", "attention_bias", True, "attention_bias is True"),
        ("text_config", "hidden_act", "gelu", "hidden_act is 'gelu'"),
        ("text_config", "rope_scaling", {"rope_type": "yarn"}, "rope type is 'yarn'"),
        ("text_config", "rope_scaling", {"mrope_section": [9, 9, 9]}, r"\[9, 9, 9\], need 3 counts"),
        ("text_config", "num_key_value_heads", 7, "do not divide"),
        ("vision_config", "hidden_act", "silu", "hidden_act is 'silu'"),
        ("vision_config", "out_hidden_size", 7, "out_hidden_size is 7, need 2048"),
        ("vision_config", "num_position_embeddings", 2305, "need the square"),
        ("vision_config", "deepstack_visual_indexes", [5, 30], r"\[5, 30\], need rising numbers"),
        ("vision_config", "deepstack_visual_indexes", [-1, 5], r"\[-1, 5\], need rising numbers"),
        ("vision_config", "depth", 2**62, "depth is 4611686018427387904, need 10000 at the most"),
        ("text_config", "num_hidden_layers", 2**40, "num_hidden_layers is .* need 10000 at the most"),
        ("vision_config", "num_heads", 7, "7 heads"),
    ],
)
def test_settings_that_are_not_computed_are_refused(where, key, value, message):
    raw = copy.deepcopy(CONFIGS[QWEN3_VL_2B])
    raw[where][key] = value
    with pytest.raises(UserError, match=rf"c\.json: {where}.*{message}"):
        Config.from_hf(raw, PROCESSOR, "auto", "c.json")


def test_settings_of_other_families_are_refused(model):
    source = open_source(model[0])
    with pytest.raises(UserError, match="leave it empty"):
        FAMILY.prompter(source, ModelConfig(template="hub"))
    with pytest.raises(UserError, match="holds its own vision tower"):
        open_source(model[0], ModelConfig(vision_tower="x"))


@pytest.fixture(scope="module")
def tuned(model):
    """The model, and parameters that training might have given."""
    loaded = load_model(model[0], dtype=np.float32, trainable=FAMILY.mapping, max_trainable=0.9)
    rng = np.random.default_rng(0)
    return loaded, jax.tree.map(
        lambda x: x + 0.05 * rng.normal(size=x.shape).astype(np.float32), loaded.params
    )


def test_the_exported_folder_answers_alike_in_transformers(tuned, model, tmp_path):
    loaded, params = tuned
    FOLDER.write(loaded.source, params, tmp_path / "out", 3, {})
    assert "merger" in FOLDER.verify(loaded.source, params, tmp_path / "out", 3)
    assert_exported_answers_equal(loaded, params, tmp_path / "out", FOLDER.answers, tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    kernel = params["merger"]["fc_2"]["kernel"]
    np.testing.assert_array_equal(again.model.visual.merger.linear_fc2.weight.detach().numpy().T, kernel)


def test_the_tuned_tensors_alone_are_read_back(tuned, tmp_path):
    loaded, params = tuned
    MERGER.write(loaded.source, params, tmp_path / "out", 3, {})
    assert "tensors" in MERGER.verify(loaded.source, params, tmp_path / "out", 3)


def test_a_second_head_of_a_tied_model_has_to_be_its_table(model, tmp_path):
    for path in model[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(model[0] / "model.safetensors")
    table = tensors["model.language_model.embed_tokens.weight"]
    save_file(tensors | {"lm_head.weight": table.clone()}, tmp_path / "model.safetensors")
    assert "lm_head.weight" not in open_source(tmp_path).tensors
    save_file(tensors | {"lm_head.weight": 2 * table}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"lm_head\.weight differs"):
        open_source(tmp_path)


def test_a_stop_token_of_the_files_ends_an_answer(model):
    loaded = load_model(model[0], dtype=np.float32)
    prompter, _ = parts(loaded)
    assert loaded.generation.end_ids(prompter.eos_id) == (prompter.eos_id, prompter.pad_id)
    raw = json.loads((model[0] / "generation_config.json").read_text())
    assert raw["eos_token_id"] == [prompter.eos_id, prompter.pad_id]
