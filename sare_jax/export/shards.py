"""Weight files as a stream: what lies in which file, and writing it one tensor at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax.files import write_json
from sare_jax.models.shared import torch_pickle
from sare_jax.models.shared.safetensors_io import write_file
from sare_jax.models.shared.weight_files import SAFETENSORS, TORCH
from sare_jax.progress import bar

LIMIT = 5 * 10**9  # bytes of tensors in a file, as the hub's models are cut


@dataclass(frozen=True)
class Output:
    """A tensor to be written.

    Attributes:
      name: its name.
      dtype: element type.
      shape: its shape.
      read: gives it; called when its turn comes.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def num_bytes(self) -> int:
        """Size of its data."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Shard:
    """A file to be written.

    Attributes:
      file: its name.
      outputs: its tensors, in the order of their bytes.
      metadata: strings of its header; `format: pt` is added.
    """

    file: str
    outputs: list[Output]
    metadata: dict[str, str]


def cut(outputs: list[Output]) -> list[Shard]:
    """Files of at most `LIMIT` bytes, with the hub's names, the tensors in their order."""
    groups: list[list[Output]] = [[]]
    size = 0
    for entry in outputs:
        if groups[-1] and size + entry.num_bytes > LIMIT:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += entry.num_bytes
    if len(groups) == 1:
        return [Shard(SAFETENSORS.single, outputs, {})]
    return [
        Shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", group, {})
        for number, group in enumerate(groups, start=1)
    ]


def total_bytes(shards: list[Shard]) -> int:
    """Size of all tensors."""
    return sum(entry.num_bytes for shard in shards for entry in shard.outputs)


def write_torch(folder: Path, shards: list[Shard], index_metadata: dict[str, Any]) -> None:
    """Writes all tensors, and nothing else, as the one pytorch_model.bin.

    Tensors that lie in mapped files are read while they are written, so they are never all in memory.

    Args:
      folder: where to; not atomic, so write into a draft.
      shards: from `cut`, or the base's own, whose files do not matter here.
      index_metadata: of no use, since one file has no index.
    """
    del index_metadata
    tensors = {entry.name: entry.read() for shard in shards for entry in shard.outputs}
    torch_pickle.write_file(folder / TORCH.single, tensors)


def write_shards(folder: Path, shards: list[Shard], index_metadata: dict[str, Any]) -> None:
    """Writes the files, and their index unless there is but the one that needs none; shows the progress.

    Args:
      folder: where to; not atomic, so write into a draft.
      shards: from `cut`, or the base's own.
      index_metadata: what the index says besides `total_size`.
    """
    total = total_bytes(shards)
    with bar(total, "export", unit="B") as progress:

        def data(outputs: list[Output]) -> Iterator[np.ndarray]:
            for entry in outputs:
                yield entry.read()
                progress.update(entry.num_bytes)

        for shard in shards:
            layout = [(entry.name, entry.dtype, entry.shape) for entry in shard.outputs]
            metadata = {**shard.metadata, "format": "pt"}
            write_file(folder / shard.file, layout, data(shard.outputs), metadata)
    if [shard.file for shard in shards] != [SAFETENSORS.single]:
        weight_map = {entry.name: shard.file for shard in shards for entry in shard.outputs}
        index = {"metadata": {**index_metadata, "total_size": total}, "weight_map": weight_map}
        write_json(folder / SAFETENSORS.index, index)
