"""What makes mPLUG-Owl a family of `sare_jax.models.families`."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from sare_jax.models.interface import Family, ModelShape
from sare_jax.models.mplug_owl import names
from sare_jax.models.mplug_owl.config import MODEL_TYPE, OwlConfig
from sare_jax.models.mplug_owl.images import image_processor
from sare_jax.models.mplug_owl.modeling import MplugOwl
from sare_jax.models.mplug_owl.prompts import prompter_of
from sare_jax.models.mplug_owl.source import (
    PUBLISHED,
    OwlSource,
    config_without_weights,
    how_to_get,
    needed_files,
    open_owl,
)
from sare_jax.models.shared.piece_prompter import PiecePrompter
from sare_jax.models.shared.square_images import SquareImageProcessor
from sare_jax.models.shared.target import Target
from sare_jax.settings import ModelConfig

MAPPING = r"abstractor/.*"
_EXPORT = "sare_jax.models.mplug_owl.export"


def _recognises(raw: Mapping[str, Any]) -> bool:
    return raw.get("model_type") == MODEL_TYPE


def _shape(config: OwlConfig) -> ModelShape:
    return ModelShape(
        text=config.text,
        image_token_id=config.image_token_id,
        num_image_tokens=config.num_image_tokens,
        num_image_features=config.num_image_features,
        feature_width=config.vision.width,
        picture=(config.vision.image_size, config.vision.image_size, 3),
        layers="language_model/layers/",
        ends=("embed/table", "head/kernel"),
    )


def _build(config: OwlConfig, target: Target, rngs: nnx.Rngs) -> MplugOwl:
    return MplugOwl(config, target, rngs=rngs)


def _prompter(source: OwlSource, settings: ModelConfig) -> PiecePrompter:
    return prompter_of(source, settings.template)


def _image_processor(source: OwlSource, settings: ModelConfig) -> SquareImageProcessor:
    return image_processor(source, settings.image_mode)


FAMILY = Family(
    name="mplug_owl",
    recognises=_recognises,
    kinds=f"model_type {MODEL_TYPE}",
    needed=needed_files,
    how_to_get=how_to_get,
    open_source=open_owl,
    published=tuple(PUBLISHED),
    config_of=config_without_weights,
    shape=_shape,
    build=_build,
    entries=names.entries,
    is_buffer=names.is_buffer,
    is_unused=names.is_unused,
    prompter=_prompter,
    image_processor=_image_processor,
    exports={form: f"{_EXPORT}:{form.upper()}" for form in ("published", "folder", "efuf", "abstractor")},
    mapping=MAPPING,
    encoder=r"vision_tower/.*",
    trainable=MAPPING,
    dropping=MplugOwl.project_dropping,
)
