import pytest

from sare_jax.errors import UserError
from sare_jax.models.llava.config import LlavaConfig, image_slots
from sare_jax.models.shared.config import TextConfig

# config.json of llava-hf/llava-1.5-7b-hf, as published in transformers 4's form.
HUB = {
    "model_type": "llava",
    "image_token_index": 32000,
    "pad_token_id": 32001,
    "projector_hidden_act": "gelu",
    "text_config": {
        "model_type": "llama",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-05,
        "vocab_size": 32064,
    },
    "tie_word_embeddings": False,
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
}


def test_published_config_gets_the_defaults_it_relies_on():
    config = LlavaConfig.from_hf(HUB)
    assert config.text == TextConfig(
        vocab_size=32064,
        width=4096,
        mlp=11008,
        num_layers=32,
        num_heads=32,
        num_kv_heads=32,
        head_size=128,
        rope_theta=1e4,
        eps=1e-5,
        tied=False,
    )
    assert (config.vision.width, config.vision.activation, config.vision.eps) == (1024, "quick_gelu", 1e-5)
    assert config.num_image_tokens == 576
    assert config.num_vision_layers_run == 23


def test_newer_form_reads_the_same():
    newer = HUB | {"image_token_id": 32000}
    del newer["image_token_index"]
    rope = {"rope_theta": 1e4, "rope_type": "default"}
    newer["text_config"] = HUB["text_config"] | {"rope_parameters": rope}
    assert LlavaConfig.from_hf(newer) == LlavaConfig.from_hf(HUB)


def test_tk_06_image_slots_from_config():
    assert image_slots(336, 14, 1, "default") == 576
    assert image_slots(336, 14, 1, "full") == 577
    assert image_slots(378, 14, 0, "full") == 729
    full = LlavaConfig.from_hf(HUB | {"vision_feature_select_strategy": "full"})
    assert full.num_image_tokens == 577


COUNTS = {
    "vision_config": (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels"),
        *("image_size", "patch_size"),
    ),
    "text_config": (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "head_dim"),
    ),
}
NO_COUNTS = ["x", 0, -1, 2.5, True, [3], {}]
NO_NUMBERS = ["x", 0, -1e-5, True, [3], {}, float("nan"), float("inf")]


def refused(change):
    with pytest.raises(UserError) as error:
        LlavaConfig.from_hf(HUB | change, "here/config.json")
    said = str(error.value)
    assert said.startswith("here/config.json: ")
    assert "\n" not in said
    assert "{}" not in said.replace("is {}", "")
    return said


@pytest.mark.parametrize("bad", NO_COUNTS, ids=repr)
@pytest.mark.parametrize(("section", "key"), [(name, key) for name, keys in COUNTS.items() for key in keys])
def test_what_is_no_count_is_refused_by_name(section, key, bad):
    assert f"{section}: {key} is {bad!r}, need" in refused({section: HUB[section] | {key: bad}})


@pytest.mark.parametrize("bad", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(
    ("section", "key"),
    [("vision_config", "layer_norm_eps"), ("text_config", "rms_norm_eps"), ("text_config", "rope_theta")],
)
def test_what_is_no_positive_number_is_refused_by_name(section, key, bad):
    assert f"{section}: {key} is {bad!r}, need" in refused({section: HUB[section] | {key: bad}})


@pytest.mark.parametrize("section", COUNTS)
def test_absurdly_many_layers_are_refused(section):
    told = refused({section: HUB[section] | {"num_hidden_layers": 2**40}})
    assert f"{section}: num_hidden_layers is {2**40}, need 10000 at the most" in told


def test_a_whole_number_beyond_floats_is_refused():
    assert "text_config: rope_theta is 1000" in refused(
        {"text_config": HUB["text_config"] | {"rope_theta": 10**400}}
    )


@pytest.mark.parametrize("bad", ["x", 3, [3], True], ids=repr)
@pytest.mark.parametrize("section", ["vision_config", "text_config"])
def test_what_is_no_section_is_refused_by_name(section, bad):
    shown = "a list of 1" if bad == [3] else repr(bad)
    assert f"{section} is {shown}, need an object" in refused({section: bad})
    rope = refused({"text_config": HUB["text_config"] | {"rope_parameters": bad}})
    assert f"text_config: rope_parameters is {shown}, need an object" in rope


@pytest.mark.parametrize("bad", [0, -25, 25, True, False, "x", 2.0, None, [-2, -5]], ids=repr)
def test_the_feature_layer_is_that_of_a_layer(bad):
    assert refused({"vision_feature_layer": bad}).startswith(
        f"here/config.json: vision_feature_layer is {bad!r}, need one number from 1 to 24"
    )


@pytest.mark.parametrize(("layer", "run"), [(1, 1), (24, 24), (-1, 24), (-24, 1)])
def test_every_layer_of_the_tower_can_be_the_feature_layer(layer, run):
    assert LlavaConfig.from_hf(HUB | {"vision_feature_layer": layer}).num_vision_layers_run == run


@pytest.mark.parametrize("key", ["image_token_index", "image_token_id"])
@pytest.mark.parametrize("bad", NO_COUNTS, ids=repr)
def test_the_image_token_is_a_count(key, bad):
    assert f"{key} is {bad!r}, " in refused({"image_token_index": None, key: bad})


def test_two_image_tokens_are_refused():
    assert "differ: [32000, 32001]" in refused({"image_token_id": 32001})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"model_type": "llava_next"}, "model_type"),
        ({"vision_feature_layer": [-2, -5]}, "vision_feature_layer"),
        ({"vision_feature_layer": 40}, "vision_feature_layer"),
        ({"projector_hidden_act": "relu"}, "projector_hidden_act"),
        ({"multimodal_projector_bias": False}, "multimodal_projector_bias"),
        ({"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy"),
        ({"text_config": {"model_type": "mistral"}}, "model_type"),
        ({"text_config": {"attention_bias": True}}, "attention_bias"),
        ({"text_config": {"rope_scaling": {"type": "linear", "factor": 2.0}}}, "rope type"),
        ({"text_config": {"num_attention_heads": 7}}, "hidden_size"),
        ({"vision_config": {"hidden_act": "relu"}}, "hidden_act"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "model_type"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(change, key):
    with pytest.raises(UserError, match=key):
        LlavaConfig.from_hf(HUB | change, "here/config.json")
