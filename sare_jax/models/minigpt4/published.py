"""Configs of the LLaMAs that MiniGPT-4 is published with, for what needs their shapes and no weights."""

from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.minigpt4 import parts
from sare_jax.models.minigpt4.config import MiniGpt4Config, Towers
from sare_jax.models.minigpt4.source import config_from
from sare_jax.models.shared.hub import config_file
from sare_jax.schema import read_object
from sare_jax.settings import ModelConfig

_SEVEN_B = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
CONFIGS: dict[str, dict[str, Any]] = {
    parts.LLAMA_2: {**_SEVEN_B, "rms_norm_eps": 1e-5},
    parts.VICUNA: {**_SEVEN_B, "rms_norm_eps": 1e-6},
}


def config_without_weights(settings: ModelConfig, towers: Towers) -> tuple[MiniGpt4Config, str]:
    """A model's shapes, the LLaMA's from its config.json where that is at hand, else as it was published.

    Args:
      settings: `config.model`: `folder` is the LLaMA's, on disk or by its published name; a Q-Former in
        `files` means the Vicuna form.
      towers: shapes of vision tower and Q-Former.

    Returns:
      The config, and what it was read from, in words.

    Raises:
      UserError: the folder holds no config.json and is no key of `CONFIGS`.
    """
    parts.check(settings)
    path = config_file(settings.folder)
    if path is not None:
        return config_from(read_object(path), str(path), settings, towers), f"{path} and MiniGPT-4's towers"
    if settings.folder in CONFIGS:
        where = f"the published config of {settings.folder} and MiniGPT-4's towers"
        return config_from(CONFIGS[settings.folder], where, settings, towers), where
    raise UserError(
        f"config.model.folder: {settings.folder} holds no config.json, and is none of the models whose "
        f"shapes are known: {', '.join(CONFIGS)}"
    )
