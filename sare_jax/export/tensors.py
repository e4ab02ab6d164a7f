"""Tuned parameters as the tensors that other programs know."""

import numpy as np

from sare_jax.errors import UserError
from sare_jax.models.interface import Source
from sare_jax.models.load import abstract
from sare_jax.models.shared import lora
from sare_jax.models.shared.partition import Tree, flatten
from sare_jax.models.shared.target import here


def tuned_tensors(source: Source, params: Tree) -> dict[str, np.ndarray]:
    """Name in the family's table -> array in the published axes, the layers of stacked parameters apart.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters.

    Raises:
      UserError: the base lacks a parameter, or has it in another shape; or there are adapters.
    """
    _, shapes = abstract(source.family, source.config, here())
    table = {entry.path: entry for entry in source.family.entries(source.config)}
    tensors: dict[str, np.ndarray] = {}
    for path, value in flatten(params).items():
        if lora.is_adapter(path):
            raise UserError(
                "config.export.form: there are LoRA adapters beside the tuned parameters, which this form "
                "cannot hold; take --form peft, where the family has it"
            )
        if path not in table:
            raise UserError(
                f"{source.folder}: has no parameter {path}, so it is not the model that was tuned"
            )
        if value.shape != shapes[path].shape:
            raise UserError(
                f"{source.folder}: {path} is {list(shapes[path].shape)}, the tuned one is {list(value.shape)}"
            )
        entry, array = table[path], np.asarray(value)
        inverse = np.argsort(entry.axes)
        layers = array if entry.layers else array[None]
        tensors |= {name: layer.transpose(inverse) for name, layer in zip(entry.names(), layers, strict=True)}
    return tensors


def stored(value: np.ndarray, base: np.dtype) -> np.ndarray:
    """`value` in the dtype `base` if that holds every element exactly, else unchanged."""
    cast = value.astype(base)
    return cast if np.array_equal(cast.astype(value.dtype), value) else value
