"""The lines of a name table, which joins this project's parameters with the tensors of published files."""

from dataclasses import dataclass

import numpy as np

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A line of a family's name table: one parameter.

    Attributes:
      path: its '/'-joined path here.
      name: what the published files call it; with `{}` where the layer's number stands, if it is stacked.
      axes: axes of the published tensor, in the order they have here (without the layer axis).
      layers: how many layers are stacked along the parameter's first axis; 0 when it is not stacked.
      first: number of the first of them in the published names.
      every: from one of them to the next in the published names.
      beside: its dtype where the model is loaded in 16 bits; empty for the one that is asked for.
    """

    path: str
    name: str
    axes: Axes
    layers: int = 0
    first: int = 0
    every: int = 1
    beside: str = ""

    def names(self) -> list[str]:
        """Published names of the tensors it is made of, in the order of its layers."""
        numbers = range(self.first, self.first + self.layers * self.every, self.every)
        return [self.name.format(number) for number in numbers] if self.layers else [self.name]

    def frozen_dtype(self, asked: np.dtype) -> np.dtype:
        """What it is kept in where it is not trained and the model is loaded in the dtype `asked`."""
        return np.dtype(self.beside) if self.beside and asked.itemsize == 2 else asked

    def hub_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape that each published tensor has, given the parameter's own `shape`."""
        own = shape[1:] if self.layers else shape
        return tuple(own[self.axes.index(axis)] for axis in range(len(self.axes)))
