"""Arrays in npz files: written whole, and read only where sizes and checksums are what the file says.

`np.load` believes a header before it looks at the data, so a file of a kilobyte can ask for all the memory.
Here each member's header has to agree with the member's size, and no pickle is ever read.
"""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax import files
from sare_jax.errors import UserError

_ENCRYPTED = 0x1
_KINDS = "biufU"
_LONGEST_TEXT = 1 << 16  # characters of an entry; beyond it a few entries could ask for gigabytes
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name, atomically and uncompressed; each has a checksum in the file."""
    kept: dict[str, Any] = dict(arrays)
    with files.replacing(path) as draft, draft.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **kept)


def read_arrays(path: Path, *, most: float = math.inf) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file: of numbers, truth values or texts.

    Args:
      path: the file.
      most: entries that an array may have on its first axis.

    Raises:
      UserError: there is no such file, or it is no such npz: damaged, encrypted, compressed in another way
        than by deflate, a member that is no array or of another size than it says; names file and member.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len({member.filename for member in members}) < len(members):
                raise ValueError("a name occurs twice")
            return {member.filename.removesuffix(".npy"): _array(archive, member, most) for member in members}
    except Exception as error:  # a damaged file raises whatever its broken part leads to
        raise UserError(f"{path}: not a readable npz without pickle ({_reason(error)})") from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: float) -> np.ndarray:
    name = member.filename
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that is not read here")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _READERS:
            raise ValueError(f"{name} is of npy version {version}")
        shape, fortran, dtype = _READERS[version](stream)
        if dtype.kind not in _KINDS or dtype.names or dtype.subdtype:
            raise ValueError(f"{name} is of {'object' if dtype.hasobject else dtype}, which is not read here")
        if min(shape, default=0) < 0 or (shape and shape[0] > most):
            raise ValueError(f"{name} has {shape[0]} entries, more than the {most} there should be")
        if dtype.kind == "U" and dtype.itemsize > 4 * _LONGEST_TEXT:
            raise ValueError(f"{name} holds texts of {dtype.itemsize // 4} characters")
        size = math.prod(shape) * dtype.itemsize
        if stream.tell() + size != member.file_size:
            raise ValueError(f"{name} is cut off or its header wrong")
        data = bytearray(stream.read())  # to its end, so that the checksum is looked at
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
