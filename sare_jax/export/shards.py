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

LIMIT = 5 * 10**9  # most bytes of tensors in one file, as Hugging Face's own tools have it


@dataclass(frozen=True)
class Output:
    """A tensor to be written.

    Attributes:
      name: name of the tensor in the file.
      dtype: element type in the file.
      shape: shape in the file.
      read: returns the array of this dtype and shape; called just before the array is written.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor's data."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Shard:
    """A file to be written.

    Attributes:
      file: name of the file, without a folder.
      outputs: the file's tensors, in the order of their bytes.
      metadata: key → text, for the file's header; `format: pt` is added.
    """

    file: str
    outputs: list[Output]
    metadata: dict[str, str]


def cut(outputs: list[Output]) -> list[Shard]:
    """Divides tensors, in the order given, into files of at most `LIMIT` bytes with Hugging Face's names."""
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
    """Bytes of the data of all tensors in all files."""
    return sum(entry.num_bytes for shard in shards for entry in shard.outputs)


def write_torch(folder: Path, shards: list[Shard], index_metadata: dict[str, Any]) -> None:
    """Writes all tensors, and nothing else, as the one pytorch_model.bin.

    Tensors that lie in mapped files are read while they are written, so they are never all in memory.

    Args:
      folder: the folder to write into; an error leaves a broken file, so give a draft.
      shards: the tensors; how they are divided into files does not matter here.
      index_metadata: not used, since one file has no index.
    """
    del index_metadata
    tensors = {entry.name: entry.read() for shard in shards for entry in shard.outputs}
    torch_pickle.write_file(folder / TORCH.single, tensors)


def write_shards(folder: Path, shards: list[Shard], index_metadata: dict[str, Any]) -> None:
    """Writes safetensors files, and an index unless the only file is model.safetensors; shows the progress.

    Args:
      folder: the folder to write into; an error leaves broken files, so give a draft.
      shards: the files and their tensors, from `cut` or as the base has them.
      index_metadata: entries of the index's `metadata` besides `total_size`.
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
