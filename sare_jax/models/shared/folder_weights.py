"""The tensors of a model folder, whichever its format."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sare_jax.errors import UserError
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


def without_tied_head(folder: Path, tensors: dict[str, Tensor], table: str, head: str) -> dict[str, Tensor]:
    """The tensors of a tied model without its head, which some files store a second time.

    Args:
      folder: the model's folder, for messages.
      tensors: name -> tensor.
      table: name of the embedding table.
      head: name of the head.

    Raises:
      UserError: the head is another one than the table.
    """
    if head not in tensors or table not in tensors:
        return tensors
    own, other = tensors[head], tensors[table]
    if own.shape != other.shape or not np.array_equal(own.map(), other.map()):
        raise UserError(
            f"{folder}: config.json says tie_word_embeddings, but {own.name} differs from {other.name}"
        )
    return {name: tensor for name, tensor in tensors.items() if name != head}


def renamed(tensors: Mapping[str, Tensor], translate: Callable[[str], str]) -> dict[str, Tensor]:
    """Tensors under other names.

    Args:
      tensors: name in a file -> tensor.
      translate: name in a file -> name.

    Raises:
      UserError: two names in the files mean the same tensor.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        other = named.setdefault(translate(name), tensor)
        if other is not tensor:
            raise UserError(f"{tensor.file}: {name} and {other.name} are the same tensor; remove one of them")
    return named
