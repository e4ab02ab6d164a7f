"""mPLUG-Owl's files: names and shapes of the published model, what is read, and what is refused."""

import dataclasses
import json
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image

from sare_jax.errors import UserError
from sare_jax.models.families import find_family, open_source
from sare_jax.models.load import abstract, check_names, load_model
from sare_jax.models.mplug_owl.config import OwlConfig
from sare_jax.models.mplug_owl.family import FAMILY
from sare_jax.models.mplug_owl.images import image_processor
from sare_jax.models.mplug_owl.source import OWL, PUBLISHED, config_without_weights
from sare_jax.models.shared.partition import flatten
from sare_jax.models.shared.target import here
from sare_jax.settings import ModelConfig
from tests import tiny_owl

PUBLISHED_CONFIG = {
    "model_type": "mplug-owl",
    "num_query_tokens": 64,
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "image_size": 224,
        "patch_size": 14,
    },
    "visual_abstractor_config": {"num_hidden_layers": 6, "intermediate_size": 2816},
    "text_config": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "vocab_size": 32000,
    },
}
COUNTS = {
    r"vision_model\..*": 303_179_776,
    r"query_tokens": 65_536,
    r"abstractor\.encoder\.layers\.3\..*": 12_867_584,
    r"abstractor\..*": 81_408_000,
    r"query_tokens|abstractor\..*": 81_473_536,
    r"language_model\..*": 6_738_415_616,
    r".*": 7_123_068_928,
}


@pytest.fixture
def folder(tmp_path):
    tiny_owl.write_owl(tmp_path / "owl")
    return tmp_path / "owl"


def change(folder, **tensors) -> None:
    """Replaces tensors of a folder by their names with `__` for dots; None takes one away."""
    path = folder / "pytorch_model.bin"
    state = torch.load(path)
    for key, value in tensors.items():
        name = key.replace("__", ".")
        state.pop(name, None)
        if value is not None:
            state[name] = value
    torch.save(state, path)


def published_shapes(config: OwlConfig) -> dict[str, tuple[int, ...]]:
    """Every name and shape that the table asks of published files."""
    _, shapes = abstract(FAMILY, config, here())
    table = FAMILY.entries(config)
    assert [entry.path for entry in table] == list(dict.fromkeys(entry.path for entry in table))
    assert {entry.path for entry in table} == set(shapes)
    return {name: entry.hub_shape(shapes[entry.path].shape) for entry in table for name in entry.names()}


def test_names_shapes_and_counts_of_the_published_model():
    config, where = config_without_weights(ModelConfig(folder=OWL))
    assert where == f"the published config of {OWL}"
    found = published_shapes(config)
    assert found == tiny_owl.owl_shapes(PUBLISHED_CONFIG)
    for pattern, count in COUNTS.items():
        sizes = [math.prod(shape) for name, shape in found.items() if re.fullmatch(pattern, name)]
        assert sum(sizes) == count, pattern
    assert (config.num_image_features, config.num_image_tokens) == (257, 65)


def test_sizes_that_no_tensor_says():
    """Of the published config, which names few keys, and of the norms that no key is about."""
    config, _ = config_without_weights(ModelConfig(folder=OWL))
    vision, own, text = config.vision, config.abstractor, config.text
    assert (vision.num_heads, vision.eps, vision.image_size, vision.activation) == (
        16,
        1e-6,
        224,
        "quick_gelu",
    )
    assert (own.num_heads, own.eps) == (16, 1e-6)
    assert (text.num_heads, text.num_kv_heads, text.eps) == (32, 32, 1e-6)


def test_epsilons_of_the_abstractors_norms(folder):
    loaded = load_model(folder, dtype=jnp.float32)
    layers = loaded.merge(loaded.params, loaded.frozen).abstractor.layers
    norms = ("query_norm", "key_norm", "mlp_norm", "inner_norm")
    assert [getattr(layers, norm).eps for norm in norms] == [1e-5, 1e-5, 1e-5, 1e-6]


def test_count_with_the_wider_mlp():
    raw = PUBLISHED[OWL] | {"visual_abstractor_config": {}}  # the class's default
    found = published_shapes(OwlConfig.from_hf(raw))
    tuned = [math.prod(shape) for name, shape in found.items() if not name.startswith(("vision", "lang"))]
    assert sum(tuned) == 105_097_216


def test_every_value_is_read_and_buffers_are_not(folder):
    tensors = tiny_owl.owl_tensors(tiny_owl.owl_config())
    loaded = load_model(folder, dtype=jnp.float32)
    flat = flatten(loaded.params) | flatten(loaded.frozen)
    for entry in FAMILY.entries(loaded.config):
        array = np.asarray(flat[entry.path])
        for number, name in enumerate(entry.names()):
            own = array[number] if entry.layers else array
            np.testing.assert_array_equal(own, tensors[name].numpy().transpose(entry.axes), name)
    assert {path.split("/")[0] for path in flatten(loaded.params)} == {"abstractor"}


def test_family_is_seen_by_config_json_and_by_its_id(folder):
    assert find_family(ModelConfig(folder=str(folder))) is FAMILY
    assert find_family(ModelConfig(folder=OWL)) is FAMILY


@pytest.mark.parametrize("written", [2816, 4096, 72])
def test_the_width_of_the_mlp_is_that_of_the_tensor(folder, written):
    raw = tiny_owl.owl_config()
    raw["visual_abstractor_config"]["intermediate_size"] = written
    (folder / "config.json").write_text(json.dumps(raw))
    assert open_source(folder).config.abstractor.mlp == 48
    load_model(folder, dtype=jnp.float32)


def test_everything_wrong_with_the_tensors_is_in_one_error(folder):
    layer = "abstractor__encoder__layers__1__crossattention"
    changes = {
        f"{layer}__normk__bias": None,
        "vision_model__post_layernorm__weight": None,
        "abstractor__vit_eos": torch.zeros(1, 1, 41),
        f"{layer}__output__mlp__w1__weight": torch.zeros(47, 32),
        "abstractor__more": torch.zeros(2),
    }
    change(folder, **changes)
    with pytest.raises(UserError) as error:
        load_model(folder, dtype=jnp.float32)
    message = str(error.value)
    assert "missing: vision_model.post_layernorm.weight, abstractor.encoder.layers.1" in message
    assert "unexpected: abstractor.more" in message
    assert "abstractor.vit_eos is [1, 1, 41], need [1, 1, 40]" in message
    assert "output.mlp.w1.weight is [47, 32], need [48, 32]" in message


def test_every_tensor_is_needed(folder):
    """One after the other is taken away."""
    source = open_source(folder)
    _, shapes = abstract(FAMILY, source.config, here())
    for name in tiny_owl.owl_shapes(tiny_owl.owl_config()):
        others = {other: tensor for other, tensor in source.tensors.items() if other != name}
        with pytest.raises(UserError, match=f"missing: {re.escape(name)}$"):
            check_names(dataclasses.replace(source, tensors=others), shapes)


def test_models_of_other_graphs_are_refused(folder):
    change(folder, visual_abstractor__temporal__conv__weight=torch.zeros(1))
    with pytest.raises(UserError, match="is the mPLUG-Owl for videos"):
        open_source(folder)
    raw = tiny_owl.owl_config()
    raw["text_config"] = {"model_type": "bloom"}
    with pytest.raises(UserError, match="text_config: model_type is 'bloom', only 'llama'"):
        OwlConfig.from_hf(raw)
    raw = tiny_owl.owl_config() | {"vision_config": {"model_type": "clip_vision_model"}}
    with pytest.raises(UserError, match="vision_config: model_type is 'clip_vision_model'"):
        OwlConfig.from_hf(raw)
    raw = tiny_owl.owl_config()
    raw["visual_abstractor_config"]["encoder_hidden_size"] = 31
    with pytest.raises(UserError, match="encoder_hidden_size is 31, need the tower's 32"):
        OwlConfig.from_hf(raw)


def test_missing_files_and_settings_of_other_families_are_named(folder):
    (folder / "tokenizer.model").unlink()
    with pytest.raises(UserError, match=r"did not find tokenizer\.model\. Get it with: hf download MAGAer13"):
        open_source(folder)
    tiny_owl.write_owl(folder)
    with pytest.raises(UserError, match=r"model\.vision_tower empty"):
        open_source(folder, ModelConfig(vision_tower="tower"))
    source = open_source(folder)
    with pytest.raises(UserError, match=r"image_mode: is 'pad'"):
        image_processor(source, "pad")
    with pytest.raises(UserError, match=r"template: is 'hub', need '' or 'owl_roles_apart'"):
        FAMILY.prompter(source, ModelConfig(template="hub"))
    with pytest.raises(UserError, match=r"folder: some/model holds no config\.json"):
        config_without_weights(ModelConfig(folder="some/model"))


def test_pictures_are_resized_straight_to_the_square(folder):
    """Against the steps of the published processor, done one by one."""
    processor = image_processor(open_source(folder))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 61, 3), np.uint8))
    resized = np.asarray(picture.resize((28, 28), Image.Resampling.BICUBIC)) / 255
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    np.testing.assert_allclose(processor(picture), (resized - mean) / std, atol=1e-6)
    assert (processor.feature_lengths, processor.num_image_tokens(folder)) == ((17,), 9)


def test_a_processor_that_is_not_computed_here_is_refused(folder):
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"shortest_edge": 28', '"shortest_edge": 32'))
    with pytest.raises(UserError, match=r"preprocessor_config\.json: size is 32, only 28"):
        image_processor(open_source(folder))
