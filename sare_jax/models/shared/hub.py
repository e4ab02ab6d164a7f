"""From what a user calls a model to the folder of its files."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from sare_jax import online
from sare_jax.errors import UserError
from sare_jax.models.shared.weight_files import (
    ADAPTER,
    SAFETENSORS,
    TORCH,
    WEIGHTS,
    Layout,
    Needed,
    shards,
    why_no_weights,
)
from sare_jax.shipped import located

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
TOKENIZER_FILE: Needed = {"tokenizer.json or tokenizer.model": ("tokenizer.json", "tokenizer.model")}

# Weights come second: torch's files are fetched only where a model has no safetensors.
_SMALL = ["*.json", "tokenizer.model", "*.jinja", "*.txt"]
_SAFETENSORS, _TORCH = ["model*.safetensors"], ["pytorch_model*.bin", "mm_projector.bin"]


def resolve_folder(
    name: str, needed: Callable[[Path], Needed], way_out: str, looked_for: Needed | None = None
) -> Path:
    """The folder that holds a model, or a part of one that is published apart.

    Args:
      name: a folder, or a model id of the hub, which is looked up in the local cache first and downloaded
        where there is a network.
      needed: (folder) the files that have to be there.
      way_out: how to get the files, for errors.
      looked_for: the files that an error names where there is no folder.

    Raises:
      UserError: there is none; names the files that were looked for and how to get them.
    """
    folder = located(name)
    if folder.is_dir() or not is_model_id(name):
        require_files(folder, needed(folder), way_out)
        return folder
    return _from_hub(name, needed, way_out, looked_for or needed(folder))


def config_file(name: str) -> Path | None:
    """The config.json of a folder or of a model id in the local cache; None where there is none."""
    path = located(name) / "config.json"
    if path.is_file():
        return path
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # a path, not an id
        return None
    return Path(cached) if isinstance(cached, str) else None


def require_files(folder: Path, needed: Needed, way_out: str) -> None:
    """Checks that a folder has the files, and all shards of its weights where these are asked for.

    Args:
      folder: the model's folder, which need not exist.
      needed: what an error calls it -> file names, one of which has to be there.
      way_out: how to get the files.

    Raises:
      UserError: names every file looked for, which are missing, and how to get them.
    """
    folder = Path(folder)
    if missing := _missing(folder, needed):
        state = "no whole model there" if folder.is_dir() else "no whole model there, nor such a folder"
        looked = f"looked for {', '.join(needed)}; did not find {', '.join(missing)}"
        if len(missing) == len(needed):
            looked = f"looked for and did not find {', '.join(missing)}"
        raise UserError(f"{folder}: {state}; {looked}. {why_no_weights(folder)}{way_out}")
    if WEIGHTS in needed.values():
        shards(folder, weight_layout(folder))
        if (folder / ADAPTER).is_file():
            raise UserError(
                f"{folder}: {ADAPTER} stands beside the weights, and the adapter would not be applied; merge "
                "it into the weights, or remove its files"
            )


def _missing(folder: Path, needed: Needed) -> list[str]:
    """What errors call the needed files of which the folder has none."""
    return [label for label, names in needed.items() if not any((folder / name).is_file() for name in names)]


def weight_layout(folder: Path) -> Layout:
    """The format of a folder's weights; safetensors where there are several."""
    has_safetensors = any((folder / name).is_file() for name in (SAFETENSORS.single, SAFETENSORS.index))
    return SAFETENSORS if has_safetensors else TORCH


_FOLDERS = ("models", "checkpoints", "weights", "runs")


def is_model_id(name: str) -> bool:
    """Whether a name looks like `owner/model`; what would lie in a folder that is here is a path.

    So is what begins as folders do that people keep models in, whether it is here or not.
    """
    owner, slash, model = name.partition("/")
    is_path = not owner or not model or "/" in model or owner.startswith((".", "~")) or owner in _FOLDERS
    return bool(slash) and not is_path and not Path(owner).is_dir()


def _from_hub(name: str, needed: Callable[[Path], Needed], way_out: str, looked_for: Needed) -> Path:
    """The snapshot of a model id: from the cache if it is whole there, else from the hub."""
    partial, reason = None, ""
    for fetch in (_cached, _downloaded):
        if fetch is _downloaded and not online.hub_answers():
            reason = " (the hub does not answer)"
            continue
        try:
            folder = fetch(name)
            require_files(folder, needed(folder), way_out)
            return folder
        except LocalEntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError, ValueError) as error:
            reason = f" ({type(error).__name__}: {' '.join(str(error).split())[:150]})"
        except UserError as error:
            partial = error
    if partial:
        raise partial
    # Of a model that is not there, files that are named by full paths may be.
    missing = _missing(Path(name), looked_for)
    raise UserError(
        f"{name}: neither a folder, nor in the local hub cache, nor to be downloaded from here{reason}. "
        f"Did not find {', '.join(missing)}. {way_out}"
    )


def _cached(name: str) -> Path:
    return Path(snapshot_download(name, local_files_only=True, allow_patterns=_SMALL))


def _downloaded(name: str) -> Path:
    folder = Path(snapshot_download(name, allow_patterns=_SMALL + _SAFETENSORS))
    if weight_layout(folder) is TORCH:
        folder = Path(snapshot_download(name, allow_patterns=_SMALL + _TORCH))
    return folder
