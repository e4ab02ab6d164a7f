"""Configs of the published models, for what needs their shapes and no weights."""

from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.hub import LLAVA, ORIGINAL_LLAVA, SHAREGPT4V
from sare_jax.models.llava.original import SHAREGPT4V_TOWER, is_original, original_config
from sare_jax.models.shared.hub import config_file
from sare_jax.schema import read_object

_TOWER = {  # CLIP ViT-L/14 at 336 pixels; ShareGPT4V tuned its weights, not its shape
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
_VICUNA = {  # Vicuna-7B v1.5
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-5,
}
_ORIGINAL = {
    **_VICUNA,
    "vocab_size": 32000,
    "mm_hidden_size": 1024,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "image_aspect_ratio": "pad",
}
CONFIGS: dict[str, dict[str, Any]] = {
    LLAVA: {
        "model_type": "llava",
        "image_token_index": 32000,
        "vision_config": _TOWER,
        "text_config": {"model_type": "llama", "vocab_size": 32064, **_VICUNA},
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    },
    ORIGINAL_LLAVA: {**_ORIGINAL, "mm_vision_tower": "openai/clip-vit-large-patch14-336"},
    SHAREGPT4V: {**_ORIGINAL, "mm_vision_tower": SHAREGPT4V_TOWER},
}
TOWERS: dict[str, dict[str, Any]] = {
    "openai/clip-vit-large-patch14-336": _TOWER,
    SHAREGPT4V_TOWER: _TOWER,
}


def config_without_weights(folder: str, vision_tower: str = "") -> tuple[LlavaConfig, str]:
    """A model's shapes, from its config.json where that is at hand, else as they were published.

    Args:
      folder: as `model.folder`: a folder, of which config.json is enough, or a model id.
      vision_tower: as `model.vision_tower`.

    Returns:
      The config, and what it was read from, in words.

    Raises:
      UserError: a folder holds no config.json, and its name is none of the published ones.
    """
    raw, where = _look_up(folder, "model.folder", CONFIGS)
    if not is_original(raw):
        return LlavaConfig.from_hf(raw, where), where
    tower, tower_where = _look_up(
        vision_tower or str(raw.get("mm_vision_tower")), "model.vision_tower", TOWERS
    )
    return original_config(raw, where, tower, tower_where)[0], f"{where}; tower: {tower_where}"


def _look_up(name: str, key: str, published: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], str]:
    path = config_file(name)
    if path is not None:
        return read_object(path), str(path)
    if name in published:
        return published[name], f"the published config of {name}"
    raise UserError(
        f"config.{key}: {name} holds no config.json, and is none of the models whose shapes are known: "
        f"{', '.join(published)}"
    )
