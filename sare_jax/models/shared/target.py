"""What a program is lowered for, and everything that is computed otherwise there than elsewhere.

Results are the same everywhere but for rounding. The choice is made while a program is traced, by the devices
on which the weights lie or shall lie, so a program can be lowered for a device that is not there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from sare_jax.models.shared.batch_pieces import BatchPieces
from sare_jax.models.shared.layout import row_major

# Rows that a CPU takes at a time, and the bytes of so many rows up to which what one operation hands to the
# next fits into its cache.
_FEW, _FITS = 2, 1 << 22
# Tokens of a device's rows that go through a layer together.
_TOKENS = 1 << 13
# Bytes of all layers from which, and up to which, a CPU takes them apart.
_APART_FROM, _APART_TO = 1 << 24, 1 << 30

_AMPERE = (8, 0)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Target:
    """Devices for which a program is lowered.

    Attributes:
      platform: jax's name of the kind of device: "cpu", "gpu" or "tpu".
      devices: number of devices over which rows are divided.
      capability: a GPU's CUDA compute capability, major and minor.
    """

    platform: str
    devices: int = 1
    capability: tuple[int, ...] = _AMPERE

    @classmethod
    def of(cls, sharding: jax.sharding.Sharding) -> "Target":
        """The devices on which arrays of this sharding lie."""
        devices: Any = sharding.device_set
        device = next(iter(devices))
        return cls(device.platform, len(devices), _capability(device))

    @property
    def has_flash(self) -> bool:
        """Whether cuDNN's flash attention runs there: on NVIDIA's cards since Ampere."""
        return self.platform == "gpu" and self.capability >= _AMPERE

    @property
    def is_cpu(self) -> bool:
        """Whether the tuning for a CPU's caches and vector units applies."""
        return self.platform == "cpu"

    def few_rows(self, run: Callable[[jax.Array], Result], x: jax.Array) -> Result:
        """`run(x)`, for a function that treats every row by itself.

        On a CPU rows go through it two at a time: what one operation hands to the next then stays in the
        cache. Not so where several CPU devices are simulated: rows may lie on different ones.

        Args:
          run: [b, …] -> arrays [b, …].
          x: [B, …].
        """
        pieces = (
            BatchPieces(1, len(x) // _FEW, _FEW) if self._cache_holds_two(x) else BatchPieces(1, 1, len(x))
        )
        return pieces.each(run, x)

    def pieces(self, x: jax.Array | jax.ShapeDtypeStruct) -> BatchPieces:
        """How the rows of a batch are cut for a language model that reads a few of them at a time.

        As `few_rows` cuts them, or else into pieces of at most `_TOKENS` tokens on each device, and of one
        row at least. What is computed of a token is far more than what is kept of it, and more tokens make
        products no faster.

        Args:
          x: [B, T, …], T tokens of each row.
        """
        rows, tokens = x.shape[:2]
        if self._cache_holds_two(x):
            return BatchPieces(1, rows // _FEW, _FEW)
        if rows % self.devices:
            return BatchPieces(1, 1, rows)  # rows that are not divided over the devices
        each, most = rows // self.devices, max(1, _TOKENS // tokens)
        few = max(number for number in range(1, min(most, each) + 1) if each % number == 0)
        return BatchPieces(self.devices, each // few, few)

    def _cache_holds_two(self, x: jax.Array | jax.ShapeDtypeStruct) -> bool:
        rows = x.shape[0]
        fits = _FEW * x.size // rows * x.dtype.itemsize <= _FITS
        return self.is_cpu and self.devices == 1 and fits and rows > _FEW and rows % _FEW == 0

    def in_order(self, tree: Any) -> Any:
        """The same arrays, in memory in the order of their axes; see `layout.row_major`.

        A CPU's compiler chooses no other order for what this is called on.
        """
        return tree if self.is_cpu else jax.tree.map(row_major, tree)

    def layers_apart(self, layers: Any, stacked: Any) -> tuple[Any, ...]:
        """A tree of [L, …] arrays as trees of [l, …] arrays, in order, as decoding runs them.

        One stack, and so one loop over it, everywhere but on a CPU. There a loop copies a layer's weights
        before it multiplies by them, which takes most of a step; so each layer is a stack of its own, as long
        as the weights are small enough to be held twice, and large enough to be worth compiling each layer.

        Args:
          layers: the stacked weights, which decide.
          stacked: these weights, or what belongs to each of the layers.
        """
        leaves = jax.tree.leaves(layers)
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        if not self.is_cpu or not _APART_FROM <= size <= _APART_TO:
            return (stacked,)
        each = [slice(layer, layer + 1) for layer in range(leaves[0].shape[0])]
        return tuple(jax.tree.map(itemgetter(one), stacked) for one in each)

    def likeliest(self, logits: jax.Array) -> jax.Array:
        """int32, `argmax` over the last axis, the first of equals; XLA's own is not vectorised on a CPU."""
        if not self.is_cpu:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        size = logits.shape[-1]
        is_peak = logits == jnp.max(logits, axis=-1, keepdims=True)
        first = jnp.min(jnp.where(is_peak, jnp.arange(size, dtype=jnp.int32), size), axis=-1)
        return jnp.minimum(first, size - 1)  # for logits that are not numbers


def here() -> Target:
    """The process's first device, where arrays lie that nobody has placed."""
    device = jax.devices()[0]
    return Target(device.platform, capability=_capability(device))


def _capability(device: jax.Device) -> tuple[int, ...]:
    said = getattr(device, "compute_capability", "")
    return tuple(int(part) for part in said.split(".")) if device.platform == "gpu" and said else _AMPERE
