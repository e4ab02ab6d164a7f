"""The files that a MiniGPT-4 is published in, which `model.files` names, beside the folder of its LLaMA."""

from collections.abc import Mapping
from pathlib import Path

from sare_jax.errors import UserError
from sare_jax.models.shared import hub
from sare_jax.models.shared.weight_files import Needed
from sare_jax.settings import ModelConfig
from sare_jax.settings.building import refuse_unknown

EVA, PRETRAINED, QFORMER = "eva_vit", "pretrained", "qformer"
KEYS = (EVA, PRETRAINED, QFORMER)
LLAMA_2, VICUNA = "meta-llama/Llama-2-7b-chat-hf", "Vision-CAIR/vicuna-7b"
LAVIS = "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2"
_TOKENIZER: Needed = {"tokenizer.model": ("tokenizer.model",)}


def has_qformer(settings: ModelConfig) -> bool:
    """Whether the settings mean the Vicuna form, whose Q-Former has a file of its own."""
    return QFORMER in settings.files


def needed_files(folder: Path, settings: ModelConfig) -> Needed:
    """Everything that has to be there: the LLaMA's files, and those of `model.files`, by their full paths.

    Args:
      folder: not used; the paths of `model.files` are absolute.
      settings: `config.model`, whose `files` name the files beside the LLaMA's folder.

    Raises:
      UserError: a setting has a value that MiniGPT-4 has no use for.
    """
    del folder
    check(settings)
    wanted = KEYS if has_qformer(settings) else (EVA, PRETRAINED)
    named = {key: settings.files.get(key, "") for key in wanted}
    files = {
        f"config.model.files.{key} ({name or 'not set'})": (str(path_of(name)),) if name else ()
        for key, name in named.items()
    }
    return {**hub.WEIGHT_FILES, **_TOKENIZER, **files}


def path_of(name: str) -> Path:
    """The absolute path of a file named in `model.files`."""
    return Path(name).expanduser().absolute()


def check(settings: ModelConfig) -> None:
    """Refuses settings that only other families use.

    Raises:
      UserError: names the key.
    """
    refuse_unknown(dict(settings.files), set(KEYS), "config.model.files")
    for key, neutral in {"vision_tower": "", "image_mode": "auto", "template": ""}.items():
        if getattr(settings, key) != neutral:
            raise UserError(
                f"config.model.{key}: is {getattr(settings, key)!r}, which MiniGPT-4 has no use for; leave "
                f"it at {neutral!r}"
            )


def how_to_get(settings: ModelConfig) -> str:
    """The commands that fetch the model that the settings seem to mean."""
    llama, pretrained, more = LLAMA_2, "pretrained_minigpt4_llama2_7b.pth", ""
    if has_qformer(settings):
        llama, pretrained = VICUNA, "prerained_minigpt4_7b.pth"
        more = f" && wget {LAVIS}/blip2_pretrained_flant5xxl.pth"
    return (
        f"Get it with: hf download {llama} --local-dir MODEL && wget {LAVIS}/eva_vit_g.pth{more}, and "
        f"{pretrained} from the page of Vision-CAIR/MiniGPT-4; then set --config.model.folder=MODEL and the "
        "paths in --config.model.files"
    )


def paths(settings: ModelConfig) -> Mapping[str, Path]:
    """Key of `model.files` -> full path."""
    return {key: path_of(name) for key, name in settings.files.items()}
