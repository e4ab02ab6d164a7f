"""The lines of a name table, which joins this project's parameters with the tensors of published files."""

from dataclasses import dataclass

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A line of a family's name table: one parameter.

    Attributes:
      path: its '/'-joined path here.
      name: what the published files call it; with `{}` where the layer's number stands, if it is stacked.
      axes: axes of the published tensor, in the order they have here (without the layer axis).
      layers: how many layers are stacked along the parameter's first axis; 0 when it is not stacked.
    """

    path: str
    name: str
    axes: Axes
    layers: int = 0

    def names(self) -> list[str]:
        """Published names of the tensors it is made of, in the order of its layers."""
        return [self.name.format(layer) for layer in range(self.layers)] if self.layers else [self.name]

    def hub_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape that each published tensor has, given the parameter's own `shape`."""
        own = shape[1:] if self.layers else shape
        return tuple(own[self.axes.index(axis)] for axis in range(len(self.axes)))
