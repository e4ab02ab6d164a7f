"""Where LLaVA-1.5 and ShareGPT4V are published, and which files their folders hold."""

import re
from pathlib import Path

from sare_jax.errors import UserError
from sare_jax.models.llava.original import SHAREGPT4V_TOWER, is_original, names_sharegpt4v
from sare_jax.models.shared import hub
from sare_jax.models.shared.weight_files import Needed
from sare_jax.schema import read_object

LLAVA, ORIGINAL_LLAVA, SHAREGPT4V = (
    "llava-hf/llava-1.5-7b-hf",
    "liuhaotian/llava-v1.5-7b",
    "Lin-Chen/ShareGPT4V-7B",
)
_TOWERS = {
    ORIGINAL_LLAVA: "openai/clip-vit-large-patch14-336",
    SHAREGPT4V: SHAREGPT4V_TOWER,
}
_ORIGINAL_FILES: Needed = {**hub.WEIGHT_FILES, **hub.TOKENIZER_FILE}
MODEL_FILES: Needed = {**_ORIGINAL_FILES, **hub.PROCESSOR_FILE}


def needed_files(folder: Path) -> Needed:
    """The files that a model's main folder has to have, as its config.json or its name says of its form."""
    config = folder / "config.json"
    original = is_original(read_object(config)) if config.is_file() else str(folder) in _TOWERS
    return _ORIGINAL_FILES if original else MODEL_FILES


def resolve_tower(name: str, beside: Path, needed: Needed) -> Path:
    """The folder of a vision tower that is published apart from its model.

    Args:
      name: a folder (absolute, relative to the present one, or to the model's), or a model id.
      beside: the model's folder, which a relative `name` may start from.
      needed: what an error calls a file -> file names, one of which the tower's folder has to hold.

    Raises:
      UserError: there is none; names the files that were looked for and how to get them.
    """
    for folder in (Path(name).expanduser(), beside / name):
        if folder.is_dir():
            hub.require_files(folder, needed, _get_tower(name))
            return folder
    if not hub.is_model_id(name):
        raise UserError(f"vision tower {name}: no such folder, nor {beside / name}; {_get_tower(name)}")
    return hub.resolve_folder(name, lambda folder: needed, _get_tower(name))


def how_to_get(name: str, vision_tower: str = "") -> str:
    """The commands that fetch the model that `name`, a folder or an id, and its tower's seem to mean."""
    if names_sharegpt4v(f"{name} {vision_tower}"):
        model = SHAREGPT4V
    elif re.search(r"liuhaotian|llava-v1\.5|openai/clip-vit", f"{name} {vision_tower}"):
        model = ORIGINAL_LLAVA
    else:
        model = name if hub.is_model_id(name) and not Path(name).is_dir() else LLAVA
    if model not in _TOWERS:
        return f"Get it with: hf download {model} --local-dir MODEL; then set --config.model.folder=MODEL"
    return (
        f"Get model and vision tower with: hf download {model} --local-dir MODEL && hf download "
        f"{_TOWERS[model]} --local-dir TOWER; then set --config.model.folder=MODEL "
        "--config.model.vision_tower=TOWER"
    )


def _get_tower(name: str) -> str:
    model = name if hub.is_model_id(name) else "ID"
    return (
        f"Get the vision tower with: hf download {model} --local-dir TOWER; then set "
        "--config.model.vision_tower=TOWER"
    )
