"""What makes LLaVA-1.5 and ShareGPT4V a family of `sare_jax.models.families`."""

from pathlib import Path
from typing import Any

from flax import nnx

from sare_jax.models.interface import Family, ModelShape
from sare_jax.models.llava import names
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.hub import how_to_get, needed_files
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.modeling import Llava
from sare_jax.models.llava.original import is_original
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.llava.published import CONFIGS, config_without_weights
from sare_jax.models.llava.source import LlavaSource, open_llava
from sare_jax.models.shared.target import Target
from sare_jax.models.shared.weight_files import Needed
from sare_jax.settings import ModelConfig

MAPPING = r"projector/.*"
_EXPORT = "sare_jax.models.llava.export"


def _recognises(raw: dict[str, Any]) -> bool:
    return raw.get("model_type") == "llava" or is_original(raw)


def _open_source(folder: Path, settings: ModelConfig) -> LlavaSource:
    return open_llava(folder, settings.vision_tower)


def _needed(folder: Path, settings: ModelConfig) -> Needed:
    del settings
    return needed_files(folder)


def _how_to_get(settings: ModelConfig) -> str:
    return how_to_get(settings.folder, settings.vision_tower)


def _config_of(settings: ModelConfig) -> tuple[LlavaConfig, str]:
    return config_without_weights(settings.folder, settings.vision_tower)


def _shape(config: LlavaConfig) -> ModelShape:
    return ModelShape(
        text=config.text,
        image_token_id=config.image_token_id,
        num_image_tokens=config.num_image_tokens,
        num_image_features=config.num_image_tokens,
        feature_width=config.vision.width,
        picture=(config.vision.image_size, config.vision.image_size, 3),
        layers="language_model/layers/",
        ends=("embed/table",) if config.text.tied else ("embed/table", "head/kernel"),
    )


def _build(config: LlavaConfig, target: Target, rngs: nnx.Rngs) -> Llava:
    return Llava(config, target, rngs=rngs)


def _prompter(source: LlavaSource, settings: ModelConfig) -> LlavaPrompter:
    return LlavaPrompter.from_source(source, settings.template or "vicuna_v1")


def _image_processor(source: LlavaSource, settings: ModelConfig) -> LlavaImageProcessor:
    return LlavaImageProcessor.from_source(source, settings.image_mode)


FAMILY = Family(
    name="llava",
    recognises=_recognises,
    kinds="model_type llava, or LLaVA's own form, to which ShareGPT4V belongs too",
    needed=_needed,
    how_to_get=_how_to_get,
    open_source=_open_source,
    published=tuple(CONFIGS),
    config_of=_config_of,
    shape=_shape,
    build=_build,
    entries=names.entries,
    is_buffer=names.is_buffer,
    is_unused=names.is_unused,
    prompter=_prompter,
    image_processor=_image_processor,
    exports={form: f"{_EXPORT}:{form.upper()}" for form in ("folder", "projector", "efuf", "peft")},
    mapping=MAPPING,
    encoder=r"vision_tower/.*",
    trainable=MAPPING,
)
