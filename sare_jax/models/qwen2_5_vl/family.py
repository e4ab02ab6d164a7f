"""What makes Qwen2.5-VL a family of `sare_jax.models.families`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from sare_jax.models.interface import Family, ModelShape
from sare_jax.models.qwen2_5_vl import names
from sare_jax.models.qwen2_5_vl.config import MODEL_TYPE, Qwen25VLConfig
from sare_jax.models.qwen2_5_vl.modeling import Qwen25VL
from sare_jax.models.qwen2_5_vl.published import CONFIGS, PROCESSOR
from sare_jax.models.shared.qwen_vl.family import image_processor_of, no_buffer, nothing_unused, prompter_of
from sare_jax.models.shared.qwen_vl.source import Published, QwenSource
from sare_jax.models.shared.target import Target
from sare_jax.settings import ModelConfig

_PUBLISHED = Published(CONFIGS, PROCESSOR, Qwen25VLConfig.from_hf, names.hub_name, names.published_name)
_SYSTEM = "You are a helpful assistant."  # of the published chat template
MAPPING = r"merger/.*"
_EXPORT = "sare_jax.models.qwen2_5_vl.export"


def _recognises(raw: Mapping[str, Any]) -> bool:
    return raw.get("model_type") == MODEL_TYPE


def _open_source(folder: Path, settings: ModelConfig) -> QwenSource:
    return _PUBLISHED.open(FAMILY, folder, settings)


def _shape(config: Qwen25VLConfig) -> ModelShape:
    most = config.patches.most_tokens
    return ModelShape(
        text=config.text,
        image_token_id=config.image_token_id,
        num_image_tokens=most,
        num_image_features=most,
        feature_width=config.feature_width,
        picture=config.patches.largest_picture,
        layers="language_model/layers/",
        ends=("embed/table",) if config.text.tied else ("embed/table", "head/kernel"),
    )


def _build(config: Qwen25VLConfig, target: Target, rngs: nnx.Rngs) -> Qwen25VL:
    return Qwen25VL(config, target, rngs=rngs)


FAMILY = Family(
    name="qwen2_5_vl",
    recognises=_recognises,
    kinds=f"model_type {MODEL_TYPE}",
    needed=_PUBLISHED.needed,
    how_to_get=_PUBLISHED.how_to_get,
    open_source=_open_source,
    published=tuple(CONFIGS),
    config_of=_PUBLISHED.config_without_weights,
    shape=_shape,
    build=_build,
    entries=names.entries,
    is_buffer=no_buffer,
    is_unused=nothing_unused,
    prompter=prompter_of(_SYSTEM),
    image_processor=image_processor_of,
    exports={form: f"{_EXPORT}:{form.upper()}" for form in ("folder", "merger")},
    mapping=MAPPING,
    encoder=r"vision_tower/.*",
    trainable=MAPPING,
)
