"""What makes MiniGPT-4 a family of `sare_jax.models.families`."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from sare_jax.models.interface import Family, ModelShape
from sare_jax.models.minigpt4 import names, parts
from sare_jax.models.minigpt4.config import PUBLISHED, MiniGpt4Config, Towers
from sare_jax.models.minigpt4.modeling import MiniGpt4
from sare_jax.models.minigpt4.prompts import prompter_of
from sare_jax.models.minigpt4.published import CONFIGS, config_without_weights
from sare_jax.models.minigpt4.source import MiniGpt4Source, open_minigpt4
from sare_jax.models.shared.piece_prompter import PiecePrompter
from sare_jax.models.shared.square_images import SquareImageProcessor
from sare_jax.models.shared.target import Target
from sare_jax.settings import ModelConfig

MAPPING = r"llama_proj/.*"


@functools.cache
def family_of(towers: Towers) -> Family:
    """The family of the MiniGPT-4s whose towers have these shapes; their files do not say them.

    Args:
      towers: shapes of vision tower and Q-Former; `config.PUBLISHED` for all published models.
    """

    def open_source(folder: Path, settings: ModelConfig) -> MiniGpt4Source:
        return open_minigpt4(folder, settings, towers)

    def config_of(settings: ModelConfig) -> tuple[MiniGpt4Config, str]:
        return config_without_weights(settings, towers)

    return Family(
        name="minigpt4",
        recognises=_recognises,
        kinds="by its name alone, --config.model.family=minigpt4, since it has no config.json of its own",
        needed=parts.needed_files,
        how_to_get=parts.how_to_get,
        open_source=open_source,
        published=tuple(CONFIGS),
        config_of=config_of,
        shape=_shape,
        build=_build,
        entries=names.entries,
        is_buffer=names.is_buffer,
        is_unused=names.is_unused,
        prompter=_prompter,
        image_processor=_image_processor,
        exports={"published": "sare_jax.models.minigpt4.export:PUBLISHED"},
        mapping=MAPPING,
        encoder=r"(vision_tower|vision_norm|qformer)/.*",
        trainable=MAPPING,
    )


def _recognises(raw: Mapping[str, Any]) -> bool:
    del raw  # the only config.json is that of a LLaMA, which may be anybody's
    return False


def _shape(config: MiniGpt4Config) -> ModelShape:
    return ModelShape(
        text=config.text,
        image_token_id=config.image_token_id,
        num_image_tokens=config.num_image_tokens,
        num_image_features=config.num_image_tokens,
        feature_width=config.feature_width,
        picture=(config.vision.image_size, config.vision.image_size, 3),
        layers="language_model/layers/",
        ends=("embed/table",) if config.text.tied else ("embed/table", "head/kernel"),
    )


def _build(config: MiniGpt4Config, target: Target, rngs: nnx.Rngs) -> MiniGpt4:
    return MiniGpt4(config, target, rngs=rngs)


def _prompter(source: MiniGpt4Source, settings: ModelConfig) -> PiecePrompter:
    del settings
    return prompter_of(source)


def _image_processor(source: MiniGpt4Source, settings: ModelConfig) -> SquareImageProcessor:
    del settings
    config = source.config
    return SquareImageProcessor(config.vision.image_size, config.num_image_tokens, config.num_image_tokens)


FAMILY = family_of(PUBLISHED)
