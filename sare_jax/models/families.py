"""The model families, and which of them a model belongs to."""

import dataclasses
from pathlib import Path

from sare_jax.errors import UserError
from sare_jax.extensions import resolve
from sare_jax.models.interface import Family, Source
from sare_jax.models.shared import hub
from sare_jax.schema import read_object
from sare_jax.settings import ModelConfig

AUTO = "auto"
FAMILIES = {
    "llava": "sare_jax.models.llava.family:FAMILY",
    "mplug_owl": "sare_jax.models.mplug_owl.family:FAMILY",
    "minigpt4": "sare_jax.models.minigpt4.family:FAMILY",
    "qwen3_vl": "sare_jax.models.qwen3_vl.family:FAMILY",
    "qwen2_5_vl": "sare_jax.models.qwen2_5_vl.family:FAMILY",
}


def find_family(settings: ModelConfig) -> Family:
    """The family of a model, from its config.json or else from its name.

    Args:
      settings: `family` is `auto`, a short name of `FAMILIES` or `module:name`; `folder` is a folder or a
        model id, looked up in the local hub cache.

    Raises:
      UserError: no family of the table knows the model, or `family` names none.
    """
    if settings.family != AUTO:
        return resolve(settings.family, FAMILIES, "config.model.family")
    families = [resolve(name, FAMILIES, "config.model.family") for name in FAMILIES]
    path = hub.config_file(settings.folder)
    if path is None:
        known = (family for family in families if settings.folder in family.published)
        # Nothing is there yet; the first family says how to get a model.
        return next(known, families[0])
    raw = read_object(path)
    if quantised := raw.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise UserError(f"{path}: quantised ({method or quantised!r}); take the model's unquantised weights")
    for family in families:
        if family.recognises(raw):
            return family
    kinds = ", ".join(f"{family.name} ({family.kinds})" for family in families)
    raise UserError(
        f"{path}: model_type is {raw.get('model_type')!r}, which no model family knows; there are {kinds}. "
        "Name one of your own with --config.model.family=module:name"
    )


def model_folder(settings: ModelConfig) -> Path:
    """The folder that holds the model's files, downloaded where there is a network.

    Raises:
      UserError: there is none; names the files that were looked for and how to get them.
    """

    def needed(folder: Path) -> hub.Needed:
        here = dataclasses.replace(settings, folder=str(folder))
        return find_family(here).needed(folder, here)

    family = find_family(settings)
    name = settings.folder
    return hub.resolve_folder(name, needed, family.how_to_get(settings), family.needed(Path(name), settings))


def open_source(folder: Path, settings: ModelConfig | None = None) -> Source:
    """Reads config and headers of a base model.

    Args:
      folder: a folder with config.json and weights, such as `model_folder` gives.
      settings: `config.model`, of which `family` and what that family reads are used; None takes the
        defaults.

    Raises:
      UserError: files are missing or broken, or the config has a setting that is not implemented.
    """
    settings = dataclasses.replace(settings or ModelConfig(), folder=str(folder))
    return find_family(settings).open_source(Path(folder), settings)
