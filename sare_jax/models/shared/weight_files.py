"""The weight files of a model folder: one file, or shards and the index that says what lies in which."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from sare_jax.errors import UserError
from sare_jax.files import read_json
from sare_jax.schema import checked

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
ADAPTER = "adapter_config.json"
_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
_POINTER = b"version https://git-lfs"
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
    there = {path.name for path in folder.iterdir() if path.is_file()}
    missing = [name for name in files if name not in there]
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
    return checked(weight_map, dict[str, str], f"{index}: weight_map")


def refuse_other_files(file: Path) -> None:
    """Refuses what stands in the place of a weight file: nothing, a folder, a pipe, a pointer of git-lfs.

    Raises:
      UserError: names the file and the way out.
    """
    if not file.exists():
        raise UserError(f"{file}: no such file")
    if not file.is_file():
        raise UserError(f"{file}: is no regular file")
    with file.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise UserError(f"{file}: a pointer of git-lfs in the place of the file; run git lfs pull")


def why_no_weights(folder: Path) -> str:
    """What a folder without weights of its own holds instead, in a sentence; empty where nothing is known."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    parts = [name for name in names if _SHARD.fullmatch(name)]
    if parts:
        return f"It has {parts[0]} and so on without their index; fetch the .index.json beside them. "
    if ADAPTER in names:
        return (
            f"It is an adapter (LoRA){_base_of(folder / ADAPTER)}; merge it into its base model first, e.g. "
            "with peft's merge_and_unload, and give the merged folder. "
        )
    return ""


def _base_of(adapter: Path) -> str:
    try:
        base = read_json(adapter).get("base_model_name_or_path")
    except (UserError, AttributeError):
        return ""
    return f" of {base!r}" if isinstance(base, str) else ""
