"""Qwen2.5-VL's files: names and shapes of the published models, both forms of names, and export back."""

import copy
import json

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from sare_jax.errors import UserError
from sare_jax.models.families import find_family, open_source
from sare_jax.models.load import abstract, load_model
from sare_jax.models.qwen2_5_vl import names
from sare_jax.models.qwen2_5_vl.config import Qwen25VLConfig
from sare_jax.models.qwen2_5_vl.export import FOLDER
from sare_jax.models.qwen2_5_vl.family import FAMILY
from sare_jax.models.qwen2_5_vl.published import CONFIGS, PROCESSOR, QWEN2_5_VL_3B, QWEN2_5_VL_7B
from sare_jax.models.shared.partition import trainable_paths
from sare_jax.models.shared.target import here
from sare_jax.settings import ModelConfig
from tests.models.qwen.comparing import assert_exported_answers_equal
from tests.models.qwen.tiny import write_qwen2_5


@pytest.mark.parametrize(
    ("name", "trained", "whole"),
    [(QWEN2_5_VL_7B, 44_574_464, 8_292_166_656), (QWEN2_5_VL_3B, 36_708_608, 3_754_622_976)],
)
def test_names_and_shapes_are_those_of_the_published_models(name, trained, whole):
    config, _ = FAMILY.config_of(ModelConfig(folder=name))
    _, shapes = abstract(FAMILY, config, here())
    ours = {
        name: entry.hub_shape(shapes[entry.path].shape)
        for entry in FAMILY.entries(config)
        for name in entry.names()
    }
    with torch.device("meta"):
        theirs = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**copy.deepcopy(CONFIGS[name])))
    state = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    if config.text.tied:
        del state["lm_head.weight"]
    assert ours == state
    sizes = {path: int(np.prod(leaf.shape)) for path, leaf in shapes.items()}
    assert sum(sizes.values()) == whole
    assert sum(sizes[path] for path in trainable_paths(shapes, FAMILY.trainable, at_most=1.0)) == trained
    for name in ours:
        assert names.hub_name(name) == names.hub_name(names.published_name(name)) == name
    assert config.vision.window == 4
    small = FAMILY.config_of(ModelConfig(folder=QWEN2_5_VL_7B, image_mode="3136-414736"))[0]
    assert FAMILY.shape(small).num_image_tokens == 529


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model's folder; as in the published ones, repetition is penalised."""
    folder = tmp_path_factory.mktemp("plain")
    write_qwen2_5(folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repetition_penalty": 1.3}))
    return folder


def test_files_of_either_form_are_read(folder, tmp_path):
    """transformers saves the published names; those of its memory are read too."""
    source = open_source(folder)
    assert find_family(ModelConfig(folder=str(folder))) is FAMILY
    written = {tensor.name for tensor in source.tensors.values()}
    assert "visual.merger.mlp.0.weight" in written
    assert {source.written_name(name) for name in source.tensors} == written
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {names.hub_name(name): value for name, value in tensors.items()}, tmp_path / "model.safetensors"
    )
    again = open_source(tmp_path)
    assert again.tensors.keys() == source.tensors.keys()
    assert "model.visual.merger.mlp.0.weight" in {tensor.name for tensor in again.tensors.values()}


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("", "use_sliding_window", True, "use_sliding_window is True"),
        ("", "rope_scaling", {"type": "yarn"}, "rope type is 'yarn'"),
        ("vision_config", "hidden_act", "gelu", "hidden_act is 'gelu'"),
        ("vision_config", "window_size", 100, "window_size is 100, need a multiple of 28"),
        ("vision_config", "fullatt_block_indexes", [7, 32], r"\[7, 32\], need rising numbers"),
        ("vision_config", "in_chans", 4, "in_chans is 4"),
    ],
)
def test_settings_that_are_not_computed_are_refused(where, key, value, message):
    raw = copy.deepcopy(CONFIGS[QWEN2_5_VL_7B])
    (raw[where] if where else raw)[key] = value
    with pytest.raises(UserError, match=rf"c\.json: .*{message}"):
        Qwen25VLConfig.from_hf(raw, PROCESSOR, "auto", "c.json")


def test_the_exported_folder_answers_alike_in_transformers(folder, tmp_path):
    loaded = load_model(folder, dtype=np.float32)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.05 * rng.normal(size=x.shape).astype(np.float32), loaded.params)
    FOLDER.write(loaded.source, params, tmp_path / "out", 3, {})
    assert "merger" in FOLDER.verify(loaded.source, params, tmp_path / "out", 3)
    assert loaded.generation.repetition_penalty == 1.3
    assert_exported_answers_equal(loaded, params, tmp_path / "out", FOLDER.answers, tmp_path)
