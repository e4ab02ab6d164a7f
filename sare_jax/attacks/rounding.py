"""Rounding the tuned weights to few bits, as they are rounded to fit a smaller machine.

An unlearning that moved each weight by less than half a step of the grid is gone afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sare_jax.attacks.interface import Attack, Attacked, Tools
from sare_jax.errors import UserError

if TYPE_CHECKING:
    import jax

    from sare_jax.training.state import Params


@dataclass(frozen=True)
class Rounding:
    """How coarse the grid is."""

    bits: int = 8
    """Bits of a weight; 8 and 4 are in use."""

    def check(self, where: str) -> None:
        """Refuses grids that have no positive step, or that float32 cannot hold."""
        if not 2 <= self.bits <= 16:
            raise UserError(f"{where}.bits: must be between 2 and 16, got {self.bits}")


def round_weights(tools: Tools, params: Params, settings: Rounding) -> Attacked:
    """Rounds each trainable matrix to the nearest of a symmetric grid of its output channel.

    The grid of a channel is k · max|w| / (2^(bits − 1) − 1) for whole k. Vectors (biases, norms) stay, as
    is usual; so do the weights that were not tuned.

    Args:
      tools: gives the base model, whose name table says which parameters number layers on their first axis.
      params: trainable parameters of the attacked run; left as they are.
      settings: number of bits.

    Returns:
      The rounded parameters, and the record: `bits`; `rounded`, the number of matrices; and over these
      matrices `moved`, the L2 norm of the change by rounding, and `tuned`, that of the difference between
      the given parameters and the base model's.
    """
    import jax.numpy as jnp

    from sare_jax.models.load import stacked_paths
    from sare_jax.models.shared.partition import flatten, unflatten

    loaded = tools.loaded
    stacked = stacked_paths(loaded.family, loaded.config)
    before, start = flatten(params), flatten(loaded.params)
    after = {path: _rounded(leaf, settings.bits, path in stacked) for path, leaf in before.items()}
    matrices = [path for path, leaf in before.items() if after[path] is not leaf]

    def length(first: dict[str, Any], second: dict[str, Any]) -> float:
        squares = [jnp.sum(jnp.square(first[path] - second[path])) for path in matrices]
        return float(jnp.sqrt(sum(squares, jnp.zeros(()))))

    record = {"bits": settings.bits, "rounded": len(matrices)}
    lengths = {"moved": length(after, before), "tuned": length(before, start)}
    return Attacked(unflatten(after), record | lengths)


def _rounded(leaf: jax.Array, bits: int, stacked: bool) -> jax.Array:
    """The nearest grid points; the leaf itself where it is a vector. The last axis numbers the channels."""
    import jax.numpy as jnp

    inputs = tuple(range(int(stacked), leaf.ndim - 1))
    if not inputs:
        return leaf
    largest = jnp.max(jnp.abs(leaf), axis=inputs, keepdims=True)
    step = jnp.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1)
    return jnp.round(leaf / step) * step


ATTACK = Attack(settings=Rounding, weights=round_weights)
