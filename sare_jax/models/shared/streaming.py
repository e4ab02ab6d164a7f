"""One parameter at a time, from where its tensors lie on disk to its devices.

What is held beyond the parameter itself is one tensor of one layer. A large stacked parameter is therefore
never put together on the host: each device allocates its part once, and the layers are written into it one
after the other. Transposes are left to the transfer or to the device, which do them about five times as fast
as numpy; casts happen on the device, while a layer is written.
"""

import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sare_jax.models.shared.entry import Axes, Entry
from sare_jax.models.shared.quantization import quantize, scale_shape, scale_sharding
from sare_jax.models.shared.weight_files import Tensor

Index = tuple[slice, ...]

SMALL = 1 << 26  # bytes up to which a part of a parameter is put together on the host


def read_parameter(
    entry: Entry,
    sources: list[Tensor],
    shape: tuple[int, ...],
    dtype: np.dtype,
    sharding: jax.sharding.Sharding,
) -> jax.Array:
    """Reads one parameter.

    Every part is read once, by the first device that holds it, and copied from there to its replicas; of each
    tensor only what this process' devices hold is touched.

    Args:
      entry: the parameter's entry in the name table.
      sources: the tensors that the parameter is made of: one, or one for each layer.
      shape: shape of the whole parameter, layer axis included.
      dtype: dtype of the result; values are rounded once, from the dtype on disk.
      sharding: how the parameter is divided over devices.
    """
    parts = _parts(shape, sharding, lambda index, device: _part(entry, sources, index, dtype, device))
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def read_int8(
    entry: Entry, sources: list[Tensor], shape: tuple[int, ...], sharding: jax.sharding.Sharding
) -> tuple[jax.Array, jax.Array]:
    """Reads a stacked kernel as int8, each layer being quantised on its device as it comes.

    Args:
      entry: the kernel's entry in the name table.
      sources: a tensor for each layer.
      shape: (L, in, out).
      sharding: how the kernel is divided over devices, along its output channels or not at all.

    Returns:
      The kernel, int8[L, in, out], and its scales, float32[L, out].
    """
    beside = scale_sharding(sharding, len(shape))
    parts = _parts(shape, sharding, lambda index, device: _int8_part(entry, sources, index, device))
    kernels, scales = zip(*parts, strict=True)
    return (
        jax.make_array_from_single_device_arrays(shape, sharding, list(kernels)),
        jax.make_array_from_single_device_arrays(scale_shape(shape), beside, list(scales)),
    )


def _parts(
    shape: tuple[int, ...], sharding: jax.sharding.Sharding, read: Callable[[Index, jax.Device], Any]
) -> list[Any]:
    """What each device of this process holds of an array, a part that several hold being read once."""
    first: dict[tuple, Any] = {}
    parts = []
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        assert index is not None  # of a device that has no part
        bounds = tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
        if bounds in first:
            parts.append(jax.device_put(first[bounds], device))
        else:
            first[bounds] = read(tuple(slice(*pair) for pair in bounds), device)
            parts.append(first[bounds])
    return parts


def _layers(entry: Entry, sources: list[Tensor], index: Index) -> list[np.ndarray]:
    """The mapped tensors, cut to what stands at `index`, which has a start and a stop on every axis."""
    own = index[1:] if entry.layers else index
    cut = tuple(own[axis] for axis in np.argsort(entry.axes))
    return [source.map()[cut] for source in (sources[index[0]] if entry.layers else sources)]


def _int8_part(
    entry: Entry, sources: list[Tensor], index: Index, device: jax.Device
) -> tuple[jax.Array, jax.Array]:
    """What one device holds of an int8 kernel, and of its scales."""
    extent = tuple(part.stop - part.start for part in index)
    kernel = jnp.zeros(extent, jnp.int8, device=device)
    scales = jnp.zeros(scale_shape(extent), jnp.float32, device=device)
    for place, layer in enumerate(_touched(_layers(entry, sources, index))):
        made = _write_int8(kernel, scales, *_sent(layer, entry.axes, device), np.int32(place))
        kernel, scales = jax.block_until_ready(made)  # no more than one layer is held besides
    return kernel, scales


def _part(
    entry: Entry, sources: list[Tensor], index: Index, dtype: np.dtype, device: jax.Device
) -> jax.Array:
    """What one device holds: `index` has a start and a stop on every axis."""
    extent = tuple(part.stop - part.start for part in index)
    layers = _layers(entry, sources, index)
    if np.prod(extent, dtype=np.int64) * dtype.itemsize <= SMALL:
        # Cast one by one: the layers of merged models may differ in dtype.
        cast = [np.array(layer.transpose(entry.axes), dtype) for layer in layers]
        return jax.device_put(np.stack(cast) if entry.layers else cast[0], device)
    whole = jnp.zeros(extent, dtype, device=device)
    for place, layer in enumerate(_touched(layers)):
        start = np.zeros(len(extent), np.int32)
        start[0] = place
        # Waiting keeps more than one layer from lying on the host.
        whole = _write(whole, *_sent(layer, entry.axes, device), start).block_until_ready()
    return whole


def _sent(layer: np.ndarray, axes: Axes, device: jax.Device) -> tuple[jax.Array, Axes]:
    """A tensor on its device, and the axes that are still to be permuted there."""
    if device.platform == "cpu":
        # XLA's own transposes are slow on CPUs, and a transfer permutes on the way.
        return jax.device_put(layer.transpose(axes), device), tuple(range(layer.ndim))
    return jax.device_put(layer, device), axes


def _touched(layers: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields mapped arrays after their pages were read, in the order of the file, one array ahead."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(_touch, layers[0])
        for number, layer in enumerate(layers):
            following.result()
            if number + 1 < len(layers):
                following = reader.submit(_touch, layers[number + 1])
            yield layer


def _touch(layer: np.ndarray) -> None:
    if layer.strides[-1] != layer.itemsize:
        return  # a torch file may hold a transposed view; its pages are read when they are needed
    layer.view(np.uint8)[..., :: mmap.PAGESIZE].max()


@partial(jax.jit, donate_argnums=0, static_argnums=2)
def _write(whole: jax.Array, layer: jax.Array, axes: Axes, start: jax.Array) -> jax.Array:
    """`whole` with a layer written at `start`, in place, its axes permuted."""
    layer = layer.transpose(axes).astype(whole.dtype)
    layer = layer.reshape((1,) * (whole.ndim - layer.ndim) + layer.shape)
    return jax.lax.dynamic_update_slice(whole, layer, tuple(start))


@partial(jax.jit, donate_argnums=(0, 1), static_argnums=3)
def _write_int8(
    kernel: jax.Array, scales: jax.Array, layer: jax.Array, axes: Axes, place: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Both with a layer quantised into them at `place`, in place, its axes permuted first."""
    whole, scale = quantize(layer.transpose(axes))
    put = jax.lax.dynamic_update_index_in_dim
    return put(kernel, whole, place, 0), put(scales, scale, place, 0)
