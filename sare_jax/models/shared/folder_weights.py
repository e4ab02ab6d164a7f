"""The tensors of a model folder, whichever its format."""

from pathlib import Path

from sare_jax.models.shared import safetensors_io, torch_pickle
from sare_jax.models.shared.hub import weight_layout
from sare_jax.models.shared.weight_files import SAFETENSORS, Tensor


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder under their own names: its safetensors, or else its torch files.

    Raises:
      UserError: no or broken weight files, or an index that does not match its shards; names them.
    """
    reader = safetensors_io if weight_layout(folder) is SAFETENSORS else torch_pickle
    return reader.read_tensors(folder)
