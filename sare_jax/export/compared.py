"""Tensor by tensor, how an exported folder differs from its base."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sare_jax.models.interface import Source
from sare_jax.models.shared.weight_files import Tensor
from sare_jax.progress import bar
from sare_jax.settings import ModelConfig

_BLOCK = 1 << 24


@dataclass(frozen=True)
class Differences:
    """Tensors by the names of the family's table.

    Attributes:
      same: number of tensors with the same dtype and bytes.
      changed: name -> ‖new − old‖₂ ÷ ‖old‖₂; 0 where the dtype alone differs.
      grown: name -> rows added behind the old ones, which have the same bytes.
      missing: names of tensors that only the base has.
      added: names of tensors that only the exported folder has.
    """

    same: int
    changed: dict[str, float]
    grown: dict[str, int]
    missing: tuple[str, ...]
    added: tuple[str, ...]

    def text(self) -> str:
        """The differences in words, one line for each tensor that differs."""
        total = self.same + len(self.changed) + len(self.grown) + len(self.added)
        lines = [f"{len(self.changed)} of {total} tensors have other values than in the base:"]
        lines += [f"  {name}  by {ratio:.3g} of its norm" for name, ratio in self.changed.items()]
        lines += [f"  {name}  {rows} rows more, the others the same" for name, rows in self.grown.items()]
        lines += [f"  {name}  is missing" for name in self.missing]
        lines += [f"  {name}  was added" for name in self.added]
        return "\n".join([*lines, f"  the other {self.same} are the same to the byte"])


def differences(source: Source, folder: Path) -> Differences:
    """Compares every tensor of an exported folder with its base's; shows the progress.

    Buffers that hold no weights are left out.

    Args:
      source: the base model.
      folder: a folder that `write_folder` wrote.

    Raises:
      UserError: the folder cannot be read as a model.
    """
    family = source.family
    exported = family.open_source(folder, ModelConfig(folder=str(folder)))
    old, new = (
        {name: t for name, t in tensors.items() if not family.is_buffer(name)}
        for tensors in (source.tensors, exported.tensors)
    )
    changed: dict[str, float] = {}
    grown: dict[str, int] = {}
    same = 0
    total = sum(tensor.num_bytes for tensor in new.values())
    with bar(total, "compare with base", unit="B") as progress:
        for name in old.keys() & new.keys():
            if old[name].dtype == new[name].dtype and _begins_with(new[name], old[name]):
                more = _rows(new[name]) - _rows(old[name])
                same += more == 0
                grown |= {name: more} if more else {}
            else:
                changed[name] = _relative(old[name], new[name])
            progress.update(new[name].num_bytes)
    missing, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    order = list(new)
    return Differences(
        same,
        dict(sorted(changed.items(), key=lambda item: order.index(item[0]))),
        dict(sorted(grown.items(), key=lambda item: order.index(item[0]))),
        tuple(missing),
        tuple(added),
    )


def _rows(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.shape else 1


def _begins_with(new: Tensor, old: Tensor) -> bool:
    """Whether the bytes of `new` begin with those of `old`, and the rows have the same shape."""
    if new.shape[1:] != old.shape[1:] or _rows(new) < _rows(old):
        return False
    longer, shorter = (np.ascontiguousarray(t.map()).reshape(-1).view(np.uint8) for t in (new, old))
    longer = longer[: shorter.size]
    blocks = (slice(start, start + _BLOCK) for start in range(0, shorter.size, _BLOCK))
    return all(np.array_equal(longer[block], shorter[block]) for block in blocks)


def _relative(old: Tensor, new: Tensor) -> float:
    if old.shape != new.shape:
        return float("inf")
    before, after = (tensor.map().astype(np.float64) for tensor in (old, new))
    return float(np.linalg.norm(after - before) / max(np.linalg.norm(before), np.finfo(np.float64).tiny))
