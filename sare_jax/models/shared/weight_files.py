"""The weight files of a model folder: one file, or shards and the index that says what lies in which."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from sare_jax.errors import UserError
from sare_jax.files import read_json

Needed = Mapping[str, tuple[str, ...]]  # what an error calls it -> file names, one of which has to be there


class Tensor(Protocol):
    """Where a tensor lies on disk, whichever the format."""

    @property
    def file(self) -> Path:
        """The file that holds it."""
        ...

    @property
    def name(self) -> str:
        """Name of the tensor in that file."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Element type on disk."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape on disk."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor's data."""
        ...

    def map(self) -> np.ndarray:
        """The tensor as a read-only view of the mapped file; pages are read when they are touched."""
        ...


@dataclass(frozen=True)
class Layout:
    """Names of the weight files of a format.

    Attributes:
      single: name of the file where all tensors are in one.
      index: name of the JSON file where there are several; its `weight_map` is tensor's name -> file.
    """

    single: str
    index: str


SAFETENSORS = Layout("model.safetensors", "model.safetensors.index.json")
TORCH = Layout("pytorch_model.bin", "pytorch_model.bin.index.json")
WEIGHTS = (SAFETENSORS.single, SAFETENSORS.index, TORCH.single, TORCH.index)


def shards(folder: Path, layout: Layout = SAFETENSORS) -> list[Path]:
    """The weight files of a model folder: one, or those that its index names.

    Raises:
      UserError: no weights, or a shard that the index names is missing.
    """
    folder = Path(folder)
    if (folder / layout.single).is_file():
        return [folder / layout.single]
    files = sorted(set(_weight_map(folder / layout.index).values()))
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: {layout.index} names files that are not there: {', '.join(missing)}")
    return [folder / name for name in files]


def gather(folder: Path, layout: Layout, read: Callable[[Path], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """All tensors of a model folder by name, single or sharded.

    Args:
      folder: the model's folder.
      layout: names of the weight files.
      read: reads one file: path -> its tensors by name.

    Raises:
      UserError: no or broken weight files, or an index that does not match its shards; names them.
    """
    gathered: dict[str, Tensor] = {}
    files = shards(folder, layout)
    for file in files:
        tensors = read(file)
        twice = sorted(gathered.keys() & tensors.keys())
        if twice:
            raise UserError(
                f"{file}: {twice[0]} is also in {gathered[twice[0]].file.name}; remove one of them"
            )
        gathered |= tensors
    if files[0].name != layout.single:
        placed = {name: tensor.file.name for name, tensor in gathered.items()}
        wrong = sorted(name for name, _ in placed.items() ^ _weight_map(Path(folder) / layout.index).items())
        if wrong:
            names = ", ".join(dict.fromkeys(wrong))
            raise UserError(f"{folder}: {layout.index} and the shards disagree about {names}")
    return gathered


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{index}: has no weight_map")
    return weight_map
