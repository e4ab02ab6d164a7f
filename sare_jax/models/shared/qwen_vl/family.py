"""Fields of a `Family` that are the same for every Qwen-VL."""

from collections.abc import Callable
from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.shared.qwen_vl.images import QwenImageProcessor
from sare_jax.models.shared.qwen_vl.prompts import QwenPrompter
from sare_jax.models.shared.qwen_vl.source import QwenSource
from sare_jax.settings import ModelConfig


def prompter_of(system: str) -> Callable[[QwenSource, ModelConfig], QwenPrompter]:
    """`Family.prompter` of a chat form with this system's sentence; empty for none."""

    def read(source: QwenSource, settings: ModelConfig) -> QwenPrompter:
        if settings.template:
            raise UserError(
                f"config.model.template: is {settings.template!r}, but a Qwen-VL has one form; leave it empty"
            )
        config = source.config
        return QwenPrompter.read(source.folder, system, config.image_token_id, config.text.vocab_size)

    return read


def image_processor_of(source: QwenSource, settings: ModelConfig) -> QwenImageProcessor:
    """`Family.image_processor`; the range of pixels has come in with the config."""
    del settings
    return QwenImageProcessor.read(source.folder, source.config.patches)


def no_buffer(name: str) -> bool:
    """`Family.is_buffer`: the files hold none."""
    del name
    return False


def nothing_unused(name: str, config: Any) -> bool:
    """`Family.is_unused`: every tensor is used."""
    del name, config
    return False
