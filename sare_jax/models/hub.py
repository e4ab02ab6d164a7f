"""From what a user calls a model to the folder of its files."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from sare_jax.errors import UserError
from sare_jax.models.load import require_files

PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja", "*.txt")


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


def _is_model_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))
