"""Torch's `.bin` files, read without running what is pickled in them and without reading their tensors.

`torch.load(weights_only=True)` builds tensors and containers and refuses everything else. `mmap=True` maps
the file, so that a tensor's pages are read when they are touched; it needs a file of torch 1.6 or later.
"""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from sare_jax.errors import UserError
from sare_jax.models.shared.weight_files import TORCH, Tensor, gather, refuse_other_files

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"


@dataclass(frozen=True)
class PickledTensor:
    """A tensor of a torch file.

    Attributes:
      file: the torch file.
      name: name of the tensor in that file.
      array: the tensor, a read-only view of the mapped file.
    """

    file: Path
    name: str
    array: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        """Element type."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.array.shape

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor's data."""
        return self.array.nbytes

    def map(self) -> np.ndarray:
        """The tensor as a read-only view of the mapped file; pages are read when they are touched."""
        return self.array


def read_file(file: Path, part: str = "") -> dict[str, PickledTensor]:
    """The tensors of one file, by name.

    Args:
      file: the file.
      part: key of the dictionary of tensors, in files that also hold optimizer, epoch and the like; empty
        where the file is that dictionary.

    Raises:
      UserError: the file is missing, truncated, of a torch before 1.6, or holds something else than tensors
        by name; names it.
    """
    file = Path(file)
    state = _load(file)
    import torch

    if part:
        if not isinstance(state, dict) or part not in state:
            raise UserError(f"{file}: has no {part!r}, under which its tensors should lie")
        state = state[part]
    if not isinstance(state, dict):
        raise UserError(f"{file}: holds a {type(state).__name__}, need tensors by name")
    names = [repr(name) for name in state if not isinstance(name, str)]
    if names:
        raise UserError(f"{file}: need tensors by name, but {', '.join(names[:20])} is no text")
    wrong = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise UserError(f"{file}: need tensors by name, but no tensor is {', '.join(wrong)}")
    return {name: PickledTensor(file, name, _view(file, name, tensor)) for name, tensor in state.items()}


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model folder by name, single or sharded; errors as in `weight_files.gather`."""
    return gather(folder, TORCH, read_file)


def write_file(file: Path, tensors: Mapping[str, np.ndarray], part: str = "") -> None:
    """Writes tensors by name, and nothing else, as `torch.load(weights_only=True)` reads them.

    Args:
      file: the new file.
      tensors: name -> array; arrays that lie in order are not copied.
      part: key under which they lie, as in `read_file`; empty for none.
    """
    import torch

    with warnings.catch_warnings():
        # Mapped arrays are read-only, of which torch warns; nothing is written to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        state = {name: _as_tensor(np.ascontiguousarray(array)) for name, array in tensors.items()}
        torch.save({part: state} if part else state, file)


def _as_tensor(array: np.ndarray) -> Any:
    """The array's memory as a torch tensor; bfloat16 goes through int16, since torch reads no such array."""
    import torch

    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _load(file: Path) -> Any:
    _check_kind(file)
    import torch  # takes seconds, and only this format needs it

    try:
        with warnings.catch_warnings():
            # Of another protocol some files can be read, and of the others the line below tells.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):
            raise UserError(
                f"{file}: damaged, or pickled in another protocol than torch's own; download it again, "
                "or save its tensors again with torch.save and no pickle_protocol"
            ) from None
        match = re.search(r"GLOBAL (\S+)", str(error))
        asked_for = match[1] if match else "more than tensors"
        raise UserError(
            f"{file}: refused, since it asks for {asked_for}, which could run code; take "
            "the model's safetensors, or the publisher's own file"
        ) from None
    except Exception as error:  # a damaged file raises whatever its broken part leads to
        raise UserError(f"{file}: truncated or damaged ({type(error).__name__}); download it again") from None


def _check_kind(file: Path) -> None:
    refuse_other_files(file)
    with file.open("rb") as stream:
        start = stream.read(len(_ZIP))
    if start.startswith(_PICKLE):
        raise UserError(
            f"{file}: a bare pickle, as torch wrote before 1.6; it is not read here. Take the model's "
            "safetensors, or save its tensors again with a present torch"
        )
    if start != _ZIP:
        raise UserError(f"{file}: truncated or not a torch file; download it again")


def _view(file: Path, name: str, tensor) -> np.ndarray:
    """The tensor's memory as a NumPy array; bfloat16 goes through int16, since NumPy has no such dtype."""
    import torch

    try:
        tensor = tensor.detach()
        if tensor.dtype == torch.bfloat16:
            array = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        else:
            array = tensor.numpy()
    except (TypeError, RuntimeError):
        kind = f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
        raise UserError(f"{file}: {name} is {kind}, which is not read here") from None
    if array.nbytes > tensor.untyped_storage().nbytes():  # a view whose strides repeat the same bytes
        raise UserError(f"{file}: {name} is larger than what is stored of it; save its tensors contiguously")
    array.flags.writeable = False
    return array
