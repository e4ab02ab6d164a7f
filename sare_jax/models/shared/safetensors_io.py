"""Reading safetensors by slices, and writing them as a stream.

The format: eight bytes with the length of a JSON header (little-endian), the header, then the tensors' bytes.
The header maps each name to its dtype, shape and place behind the header; `__metadata__` holds strings.
Files are mapped, not read: a slice touches only its own pages, and the mapped pages are the file's, not ours.
"""

import json
import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from sare_jax.errors import UserError
from sare_jax.files import parse_json
from sare_jax.models.shared import weight_files
from sare_jax.models.shared.weight_files import SAFETENSORS, gather, refuse_other_files
from sare_jax.schema import checked

SINGLE, INDEX = SAFETENSORS.single, SAFETENSORS.index
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_LABELS = {dtype: label for label, dtype in _DTYPES.items()}
_BLOCK = 1 << 24
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies on disk.

    Attributes:
      file: the safetensors file.
      name: name of the tensor in that file.
      dtype: element type on disk.
      shape: shape on disk.
      start: offset of the tensor's first byte in the file.
    """

    file: Path
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor's data."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def map(self) -> np.ndarray:
        """The tensor as a read-only view of the mapped file; pages are read when they are touched."""
        if not self.num_bytes:
            return np.zeros(self.shape, self.dtype)
        raw = np.memmap(self.file, np.uint8, mode="r", offset=self.start, shape=(self.num_bytes,))
        return raw.view(self.dtype).reshape(self.shape)


def read_header(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of one file, in the order of their bytes, and its metadata.

    The format's own rules are checked before anything is mapped: the header has at most 100 MB, each name
    stands once, and the tensors follow each other without a hole or an overlap up to the file's end.

    Raises:
      UserError: the file is missing, truncated, or no safetensors file; names it.
    """
    file = Path(file)
    refuse_other_files(file)
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if 8 + length > size:
            raise UserError(f"{file}: truncated or not a safetensors file; download it again")
        if length > _LONGEST_HEADER:
            raise UserError(
                f"{file}: its safetensors header has {length} bytes, more than the format allows; download "
                "it again"
            )
        text = stream.read(length)
    try:
        header = checked(parse_json(text, file, pairs=_once), dict[str, Any], str(file))
        metadata = checked(header.pop("__metadata__", {}), dict[str, str], f"{file}: __metadata__")
        entries = checked(header, dict[str, _Place], str(file))
    except UserError as error:
        raise UserError(f"{error}: its safetensors header cannot be read; download it again") from None
    tensors = [_tensor(file, name, entry, 8 + length) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.num_bytes))
    end = 8 + length
    for tensor in tensors:
        if tensor.start != end:
            what = "overlaps the tensor before it" if tensor.start < end else "lies behind a hole"
            raise UserError(f"{file}: {tensor.name} {what}; download it again")
        end += tensor.num_bytes
    if end > size:
        raise UserError(f"{file}: truncated, {tensors[-1].name} ends behind the file; download it again")
    if end < size:
        raise UserError(f"{file}: has {size - end} bytes that belong to no tensor; download it again")
    return {tensor.name: tensor for tensor in tensors}, metadata


def read_tensors(folder: Path) -> dict[str, weight_files.Tensor]:
    """All tensors of a model folder by name, single or sharded; errors as in `weight_files.gather`."""
    return gather(folder, SAFETENSORS, lambda file: read_header(file)[0])


def write_file(
    file: Path,
    layout: list[tuple[str, np.dtype, tuple[int, ...]]],
    data: Iterable[np.ndarray],
    metadata: dict,
) -> None:
    """Writes one safetensors file as a stream.

    Args:
      file: path of the new file; an error leaves it broken, so give a draft (`sare_jax.files.replacing`).
      layout: name, dtype and shape of each tensor, in the order of their bytes.
      data: the arrays in the same order, drawn one at a time.
      metadata: strings for `__metadata__`.
    """
    header: dict[str, dict] = {"__metadata__": metadata}
    position = 0
    for name, dtype, shape in layout:
        end = position + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": _LABELS[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight, as readers that map files expect
    with Path(file).open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for (name, dtype, shape), array in zip(layout, data, strict=True):
            if array.dtype != dtype or array.shape != shape:
                raise ValueError(f"{name}: {array.dtype}{array.shape} given, {dtype}{shape} announced")
            _write_blocks(stream, array)


@dataclass(frozen=True)
class _Place:
    """A tensor's entry in the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which each name stands once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _tensor(file: Path, name: str, entry: _Place, base: int) -> Tensor:
    dtype, (start, stop) = _DTYPES.get(entry.dtype), entry.data_offsets
    if dtype is None:
        raise UserError(f"{file}: {name} has dtype {entry.dtype}, which is not read here")
    # In Python's numbers, which do not overflow.
    if min(entry.shape, default=0) < 0 or stop - start != math.prod(entry.shape) * dtype.itemsize:
        raise UserError(
            f"{file}: {name} has {stop - start} bytes for shape {list(entry.shape)}; download it again"
        )
    return Tensor(file, name, dtype, entry.shape, base + start)


def _write_blocks(stream: BinaryIO, array: np.ndarray) -> None:
    for block in _blocks(np.ascontiguousarray(array).reshape(-1).view(np.uint8)):
        stream.write(block.data)


def _blocks(raw: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, raw.size, _BLOCK):
        yield raw[start : start + _BLOCK]
