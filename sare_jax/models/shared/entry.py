"""The lines of a name table, which joins this project's parameters with the tensors of published files."""

from dataclasses import dataclass

import numpy as np

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A line of a family's name table: one parameter.

    Attributes:
      path: '/'-joined path of the parameter in this project's module.
      name: name of the tensor in the published files; of a stacked parameter with `{}` for the layer's
        number.
      axes: the parameter's axes, without the layer axis, as numbers of the published tensor's axes.
      layers: number of layers stacked along the parameter's first axis; 0 if it is not stacked.
      first: layer number, in the published names, of the first stacked layer.
      every: difference between the layer numbers of one stacked layer and the next.
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
        """Published names of the tensors that the parameter is made of, in the order of its layers."""
        numbers = range(self.first, self.first + self.layers * self.every, self.every)
        return [self.name.format(number) for number in numbers] if self.layers else [self.name]

    def frozen_dtype(self, asked: np.dtype) -> np.dtype:
        """What it is kept in where it is not trained and the model is loaded in the dtype `asked`."""
        return np.dtype(self.beside) if self.beside and asked.itemsize == 2 else asked

    def hub_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape that each published tensor has, given the parameter's own `shape`."""
        own = shape[1:] if self.layers else shape
        return tuple(own[self.axes.index(axis)] for axis in range(len(self.axes)))
