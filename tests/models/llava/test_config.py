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
