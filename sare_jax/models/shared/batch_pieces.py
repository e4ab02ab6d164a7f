"""Rows of a batch that go through a function a few at a time, so that what it computes is held for few.

A piece has the same number of rows of each device, so cutting a batch moves nothing between devices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class BatchPieces:
    """How the rows of a batch are cut.

    Attributes:
      devices: over which the rows are divided, the first device's first.
      count: number of pieces.
      rows: rows of a piece on each device.
    """

    devices: int
    count: int
    rows: int

    def cut(self, tree: Tree, axis: int = 0) -> Tree:
        """Arrays [..., B, …], B their axis `axis`, as [..., devices, pieces, rows, …]; nothing is moved."""

        def split(leaf: jax.Array) -> jax.Array:
            shape = (*leaf.shape[:axis], self.devices, self.count, self.rows, *leaf.shape[axis + 1 :])
            return leaf.reshape(shape)

        return jax.tree.map(split, tree)

    def join(self, tree: Tree, axis: int = 0) -> Tree:
        """What `cut` cut, [..., B, …]."""

        def whole(leaf: jax.Array) -> jax.Array:
            rows = self.devices * self.count * self.rows
            return leaf.reshape(*leaf.shape[:axis], rows, *leaf.shape[axis + 3 :])

        return jax.tree.map(whole, tree)

    def take(self, tree: Tree, piece: jax.Array) -> Tree:
        """The rows of one piece, [b, …], of arrays that `cut` cut along their first axis."""

        def one(leaf: jax.Array) -> jax.Array:
            part = jax.lax.dynamic_index_in_dim(leaf, piece, axis=1, keepdims=False)
            return part.reshape(self.devices * self.rows, *part.shape[2:])

        return jax.tree.map(one, tree)

    def put(self, tree: Tree, piece: jax.Array, made: Tree, before: tuple[jax.Array, ...] = ()) -> Tree:
        """Writes rows of one piece into arrays that `cut` cut, in place.

        Args:
          tree: arrays [..., devices, pieces, rows, …].
          piece: int32[], which one.
          made: its rows, arrays [b, …]; they may be shorter along further axes, and fill these from 0.
          before: int32[] each, where the rows stand along the axes before the batch's.
        """

        def write(leaf: jax.Array, rows: jax.Array) -> jax.Array:
            part = rows.reshape(*[1] * len(before), self.devices, 1, self.rows, *rows.shape[1:])
            start: list[Any] = [*before, 0, piece, *[0] * (leaf.ndim - len(before) - 2)]
            return jax.lax.dynamic_update_slice(leaf, part, start)

        return jax.tree.map(write, tree, made)

    def each(self, run: Callable[[Any], Any], tree: Any) -> Any:
        """`run(tree)`, piece by piece, for a function that treats every row by itself.

        Args:
          run: arrays [b, …] -> arrays [b, …].
          tree: arrays [B, …].
        """
        if self.count == 1:
            return run(tree)
        there = self.cut(tree)
        shapes = jax.eval_shape(lambda: run(self.take(there, jnp.int32(0))))
        rows = self.devices, self.count, self.rows
        empty = jax.tree.map(lambda leaf: jnp.zeros((*rows, *leaf.shape[1:]), leaf.dtype), shapes)

        def advance(piece: jax.Array, made: Any) -> Any:
            return self.put(made, piece, run(self.take(there, piece)))

        return self.join(jax.lax.fori_loop(0, self.count, advance, empty))
