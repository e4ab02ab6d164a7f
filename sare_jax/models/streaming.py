"""One parameter at a time, from where its tensors lie on disk to its devices."""

import jax
import numpy as np

from sare_jax.models.llava_names import Row
from sare_jax.models.safetensors_io import Tensor


def read_parameter(
    row: Row, sources: list[Tensor], shape: tuple[int, ...], dtype: np.dtype, sharding: jax.sharding.Sharding
) -> jax.Array:
    """One parameter, from the slices that its devices ask for."""
    inverse = np.argsort(row.axes)

    def one(source: Tensor, index: tuple[slice, ...]) -> np.ndarray:
        return source.map()[tuple(index[axis] for axis in inverse)].transpose(row.axes)

    def fill(index: tuple[slice, ...]) -> np.ndarray:
        if not row.layers:
            return np.ascontiguousarray(one(sources[0], index).astype(dtype))
        layers = sources[index[0]]
        extent = [len(range(*part.indices(size))) for part, size in zip(index, shape, strict=True)]
        out = np.empty(extent, dtype)
        for place, source in enumerate(layers):
            out[place] = one(source, index[1:])
        return out

    return jax.make_array_from_callback(shape, sharding, fill)
