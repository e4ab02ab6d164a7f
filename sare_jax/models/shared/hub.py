"""From what a user calls a model to the folder of its files."""

import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from sare_jax.errors import UserError
from sare_jax.files import read_json
from sare_jax.models.llava.original import SHAREGPT4V_TOWER, is_original, names_sharegpt4v
from sare_jax.models.shared.weight_files import SAFETENSORS, TORCH, WEIGHTS, Layout, shards

Needed = Mapping[str, tuple[str, ...]]  # what an error calls it -> file names, one of which has to be there

LLAVA, ORIGINAL_LLAVA, SHAREGPT4V = (
    "llava-hf/llava-1.5-7b-hf",
    "liuhaotian/llava-v1.5-7b",
    "Lin-Chen/ShareGPT4V-7B",
)
_TOWERS = {
    ORIGINAL_LLAVA: "openai/clip-vit-large-patch14-336",
    SHAREGPT4V: SHAREGPT4V_TOWER,
}
CONFIG_FILE: Needed = {"config.json": ("config.json",)}
WEIGHT_FILES: Needed = {
    **CONFIG_FILE,
    f"{SAFETENSORS.single} or {TORCH.single} (or their .index.json and its shards)": WEIGHTS,
}
PROCESSOR_FILE: Needed = {
    "preprocessor_config.json or processor_config.json": (
        "preprocessor_config.json",
        "processor_config.json",
    ),
}
_ORIGINAL_FILES: Needed = {
    **WEIGHT_FILES,
    "tokenizer.json or tokenizer.model": ("tokenizer.json", "tokenizer.model"),
}
MODEL_FILES: Needed = {**_ORIGINAL_FILES, **PROCESSOR_FILE}

# Weights come second: torch's files are fetched only where a model has no safetensors.
_SMALL = ("*.json", "tokenizer.model", "*.jinja", "*.txt")
_SAFETENSORS, _TORCH = ("model*.safetensors",), ("pytorch_model*.bin", "mm_projector.bin")


def resolve_folder(name: str, vision_tower: str = "") -> Path:
    """The folder that holds a model.

    Args:
      name: a folder, or a model id of the hub, which is looked up in the local cache first and downloaded
        where there is a network.
      vision_tower: what the settings call its tower, by which an error knows which model is meant.

    Raises:
      UserError: there is neither; names the files that were looked for and how to get them.
    """
    folder, way_out = Path(name).expanduser(), how_to_get(name, vision_tower)
    if folder.is_dir() or not _is_model_id(name):
        require_files(folder, model_files(folder), way_out)
        return folder
    return _from_hub(name, None, way_out)


def resolve_tower(name: str, beside: Path, needed: Needed) -> Path:
    """The folder of a vision tower that is published apart from its model.

    Args:
      name: a folder (absolute, relative to the present one, or to the model's), or a model id.
      beside: the model's folder.
      needed: the files that have to be there.

    Raises:
      UserError: there is none; names the files that were looked for and how to get them.
    """
    for folder in (Path(name).expanduser(), beside / name):
        if folder.is_dir():
            require_files(folder, needed, _get_tower(name))
            return folder
    if not _is_model_id(name):
        raise UserError(f"vision tower {name}: no such folder, nor {beside / name}; {_get_tower(name)}")
    return _from_hub(name, needed, _get_tower(name))


def require_files(folder: Path, needed: Needed = MODEL_FILES, way_out: str = "") -> None:
    """Checks that a folder has the files that loading, text and images need, and all shards.

    Args:
      folder: the model's folder, which need not exist.
      needed: what an error calls it -> file names, one of which has to be there.
      way_out: how to get the files; without it, from the folder's name.

    Raises:
      UserError: names every file looked for, which are missing, and how to get them.
    """
    folder = Path(folder)
    missing = [
        label for label, names in needed.items() if not any((folder / name).is_file() for name in names)
    ]
    if missing:
        raise UserError(
            f"{folder}: no whole model there; looked for {', '.join(needed)}; did not find "
            f"{', '.join(missing)}. {way_out or how_to_get(str(folder))}"
        )
    if WEIGHTS in needed.values():
        shards(folder, weight_layout(folder))


def model_files(folder: Path) -> Needed:
    """The files that a model's main folder has to have, as its config.json says which form it is."""
    config = folder / "config.json"
    return _ORIGINAL_FILES if config.is_file() and is_original(read_json(config)) else MODEL_FILES


def weight_layout(folder: Path) -> Layout:
    """The format of a folder's weights; safetensors where there are several."""
    found = any((folder / name).is_file() for name in (SAFETENSORS.single, SAFETENSORS.index))
    return SAFETENSORS if found else TORCH


def how_to_get(name: str, vision_tower: str = "") -> str:
    """The commands that fetch the model that `name`, a folder or an id, and its tower's seem to mean."""
    if names_sharegpt4v(f"{name} {vision_tower}"):
        model = SHAREGPT4V
    elif re.search(r"liuhaotian|llava-v1\.5|openai/clip-vit", f"{name} {vision_tower}"):
        model = ORIGINAL_LLAVA
    else:
        model = name if _is_model_id(name) and not Path(name).is_dir() else LLAVA
    if model not in _TOWERS:
        return f"Get it with: hf download {model} --local-dir MODEL; then set --config.model.folder=MODEL"
    return (
        f"Get model and vision tower with: hf download {model} --local-dir MODEL && hf download "
        f"{_TOWERS[model]} --local-dir TOWER; then set --config.model.folder=MODEL "
        "--config.model.vision_tower=TOWER"
    )


def _get_tower(name: str) -> str:
    model = name if _is_model_id(name) else "ID"
    return (
        f"Get the vision tower with: hf download {model} --local-dir TOWER; then set "
        "--config.model.vision_tower=TOWER"
    )


def _from_hub(name: str, needed: Needed | None, way_out: str) -> Path:
    """The snapshot of a model id: from the cache if it is whole there, else from the hub."""
    partial, reason = None, ""
    for fetch in (_cached, _downloaded):
        try:
            folder = fetch(name)
            require_files(folder, needed or model_files(folder), way_out)
            return folder
        except LocalEntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError, ValueError) as error:
            reason = f" ({type(error).__name__}: {' '.join(str(error).split())[:150]})"
        except UserError as error:
            partial = error
    if partial:
        raise partial
    raise UserError(
        f"{name}: neither a folder, nor in the local hub cache, nor to be downloaded from here{reason}. "
        f"Looked for {', '.join(needed or (_ORIGINAL_FILES if name in _TOWERS else MODEL_FILES))}. {way_out}"
    )


def _cached(name: str) -> Path:
    return Path(snapshot_download(name, local_files_only=True, allow_patterns=_SMALL))


def _downloaded(name: str) -> Path:
    folder = Path(snapshot_download(name, allow_patterns=_SMALL + _SAFETENSORS))
    if weight_layout(folder) is TORCH:
        folder = Path(snapshot_download(name, allow_patterns=_SMALL + _TORCH))
    return folder


def _is_model_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))
