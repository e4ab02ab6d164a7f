"""Tuned parameters as the tensors that other programs know."""

import numpy as np

from sare_jax.errors import UserError
from sare_jax.models.llava.names import rows
from sare_jax.models.llava.source import Source
from sare_jax.models.load import abstract
from sare_jax.models.shared.partition import Tree, flatten


def tuned_tensors(source: Source, params: Tree) -> dict[str, np.ndarray]:
    """Hub name -> array in the hub's axes, the layers of stacked parameters apart.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters.

    Raises:
      UserError: a parameter that the base lacks, or that has another shape there.
    """
    _, shapes = abstract(source.config)
    table = {row.path: row for row in rows(source.config)}
    tensors = {}
    for path, value in flatten(params).items():
        if path not in table:
            raise UserError(
                f"{source.folder}: has no parameter {path}, so it is not the model that was tuned"
            )
        if value.shape != shapes[path].shape:
            raise UserError(
                f"{source.folder}: {path} is {list(shapes[path].shape)}, the tuned one is {list(value.shape)}"
            )
        row, array = table[path], np.asarray(value)
        inverse = np.argsort(row.axes)
        layers = array if row.layers else array[None]
        tensors |= {name: layer.transpose(inverse) for name, layer in zip(row.names(), layers, strict=True)}
    return tensors


def stored(value: np.ndarray, base: np.dtype) -> np.ndarray:
    """A tuned tensor in the dtype of the base's where nothing is lost by that, else as it is."""
    cast = value.astype(base)
    return cast if np.array_equal(cast.astype(value.dtype), value) else value
