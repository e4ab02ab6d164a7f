"""From what a user calls a model to the folder of its files."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from sare_jax.errors import UserError
from sare_jax.models.safetensors_io import INDEX, SINGLE

PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja", "*.txt")
WEIGHT_FILES = {"config.json": ("config.json",), f"{SINGLE} or {INDEX}": (SINGLE, INDEX)}
MODEL_FILES = {
    **WEIGHT_FILES,
    "tokenizer.json": ("tokenizer.json", "tokenizer.model"),
    "preprocessor_config.json or processor_config.json": (
        "preprocessor_config.json",
        "processor_config.json",
    ),
}


def resolve_folder(name: str) -> Path:
    """The folder that holds a model.

    Args:
      name: a folder, or a model id of the hub, which is looked up in the local cache first and downloaded
        where there is a network.

    Raises:
      UserError: there is neither; names the files that were looked for and how to get them.
    """
    folder = Path(name).expanduser()
    if folder.is_dir() or not _is_model_id(name):
        require_files(folder)
        return folder
    for offline in (True, False):
        try:
            folder = Path(snapshot_download(name, local_files_only=offline, allow_patterns=PATTERNS))
            require_files(folder)
            return folder
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
            continue
        except UserError:
            if not offline:
                raise
    raise UserError(
        f"{name}: neither a folder, nor in the local hub cache, nor to be downloaded from here. Looked for "
        "config.json, model.safetensors or model.safetensors.index.json with its shards, tokenizer.json, and "
        f"preprocessor_config.json or processor_config.json. On a machine with a network run: "
        f"hf download {name} --local-dir FOLDER; then set --config.model.folder=FOLDER"
    )


def require_files(folder: Path, needed: Mapping[str, tuple[str, ...]] = MODEL_FILES) -> None:
    """Checks that a model folder has what loading, text and images need.

    Args:
      folder: the model's folder, which need not exist.
      needed: what an error calls it -> file names, one of which has to be there.

    Raises:
      UserError: names every file looked for, which are missing, and how to get them.
    """
    missing = [
        label for label, names in needed.items() if not any((Path(folder) / name).is_file() for name in names)
    ]
    if missing:
        raise UserError(
            f"{folder}: no whole model there; looked for {', '.join(needed)}; did not find "
            f"{', '.join(missing)}. Get a model with: "
            f"hf download llava-hf/llava-1.5-7b-hf --local-dir {folder}"
        )


def _is_model_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))
