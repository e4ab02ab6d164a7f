"""The tuned tensors of a LLaVA alone: as safetensors by its own names, or as EFUF's training saves them.

The EFUF form is what EFUF's `load_ckpt` reads (protocols 1.7): a torch state dict of the tuned parameters by
the names of LLaVA's own code, in a file `step_%06d.pth` beside the settings in config.json. That reader picks
the last name of a folder in order of the alphabet, and ignores names that it does not know; the one here
refuses them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sare_jax.export.tuned import export_state, export_tensors, load_tuned, verify_tuned
from sare_jax.models.llava import original
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.shared.partition import Tree

PROJECTOR_FILE = "projector.safetensors"
EFUF_FILE = "step_{:06d}.pth"
_OWN_FILES = r"projector\.safetensors|step_\d+\.pth|config\.json"


def export_projector(source: LlavaSource, params: Tree, folder: Path, *, step: int = 0) -> None:
    """Writes `folder`/projector.safetensors (see `export_tensors`)."""
    export_tensors(source, params, Path(folder) / PROJECTOR_FILE, step=step, own=_OWN_FILES)


def export_efuf(
    source: LlavaSource, params: Tree, folder: Path, *, step: int, settings: Mapping[str, Any]
) -> None:
    """Writes `folder`/step_%06d.pth and `folder`/config.json as EFUF does.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters.
      folder: the new folder; it appears when it is whole, and replaces an earlier export.
      step: optimizer step at which the checkpoint was saved.
      settings: the run's settings by name; those that are numbers, texts or truth values are written.

    Raises:
      UserError: a parameter that the base lacks or that has another shape; or a `folder` of something else.
    """
    file = Path(folder) / EFUF_FILE.format(step)
    export_state(source, params, file, step=step, settings=settings, own=_OWN_FILES, naming=_efuf_name)


def load_llava_tuned(file: Path, source: LlavaSource, trainable: str = "") -> Tree:
    """As `load_tuned`; also reads files of EFUF's, which call tensors as LLaVA's own code does."""
    return load_tuned(file, source, trainable, (_efuf_name,))


def verify_projector(source: LlavaSource, params: Tree, folder: Path, step: int) -> str:
    """Reads `export_projector`'s file back (see `verify_tuned`)."""
    del step
    return verify_tuned(folder / PROJECTOR_FILE, source, params)


def verify_efuf(source: LlavaSource, params: Tree, folder: Path, step: int) -> str:
    """Reads `export_efuf`'s file back (see `verify_tuned`)."""
    return verify_tuned(folder / EFUF_FILE.format(step), source, params, (_efuf_name,))


def _efuf_name(name: str) -> str:
    return original.written_name(name, None)
