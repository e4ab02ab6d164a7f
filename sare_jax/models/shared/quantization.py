"""int8 kernels of a language model's linear layers, with one scale for each output channel.

A kernel float[in, out] is kept as whole numbers from -127 to 127 and one float32 number for each of its
columns, its scale; their product is within half a scale of the kernel. In trees of parameters the whole
numbers stand at the kernel's own path and the scales beside it, as `…/q/kernel_scale`, so a model has int8
layers where its trees have scales. All else keeps its dtype: embedding table, head, norms, vision tower, and
whatever is trained.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from sare_jax.errors import UserError
from sare_jax.models.shared.layers import Linear
from sare_jax.models.shared.partition import Tree, flatten, unflatten

KERNEL, _SCALE = "/kernel", "/kernel_scale"
# The column's largest magnitude is 127 scales. By qwix's own rule it would be 127.5, a tie, which one device
# rounds up and the other down.
_CALIBRATION = f"absmax,{127.5 / 127}"


def scale_path(kernel: str) -> str:
    """Path of the scales of the kernel with that path."""
    return kernel.removesuffix(KERNEL) + _SCALE


def scale_shape(kernel: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a kernel's scales, (*stack, out), from its own, (*stack, in, out)."""
    return (*kernel[:-2], kernel[-1])


def scale_sharding(kernel: jax.sharding.Sharding, ndim: int) -> jax.sharding.Sharding:
    """Where a kernel's scales lie: with the channels that they belong to.

    Args:
      kernel: where the kernel lies; divided along output channels or not at all, so that each device can
        find the scales of its own part.
      ndim: number of the kernel's axes.
    """
    if not isinstance(kernel, NamedSharding):
        return kernel
    spec = (*kernel.spec, *[None] * (ndim - len(kernel.spec)))
    if spec[-2] is not None:
        raise ValueError(f"a kernel that is divided along its inputs, {kernel.spec}, cannot be quantised")
    return NamedSharding(kernel.mesh, PartitionSpec(*spec[:-2], spec[-1]))


@jax.jit
def quantize(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float[in, out] -> int8[in, out] and float32[out], the largest magnitude of each column being 127.

    The scale of a column with NaN or infinity is NaN.
    """
    import qwix  # takes a while, and only runs with int8 need it

    made = qwix.quantize(
        kernel.astype(jnp.float32), jnp.int8, channelwise_axes=(1,), calibration_method=_CALIBRATION
    )
    # XLA's maximum may lose a NaN on CPUs.
    return made.qvalue, jnp.where(jnp.isfinite(kernel).all(0), made.scale[0], jnp.nan)


def split(tree: Mapping[str, Any]) -> tuple[Tree, Tree]:
    """A tree without the scales of int8 kernels, and these alone."""
    flat = flatten(tree)
    scales = {path: leaf for path, leaf in flat.items() if path.endswith(_SCALE)}
    return unflatten({path: leaf for path, leaf in flat.items() if path not in scales}), unflatten(scales)


def attach(model: Any, scales: Mapping[str, Any]) -> Any:
    """Puts scales beside the int8 kernels of a model; returns it.

    Args:
      model: an nnx module with its weights; changed.
      scales: tree of the scales, below the paths of `shared.layers.Linear` modules.

    Raises:
      UserError: another kind of layer has a scale.
    """
    for path, scale in flatten(scales).items():
        layer = functools.reduce(getattr, path.removesuffix(_SCALE).split("/"), model)
        if not isinstance(layer, Linear):
            raise UserError(f"model.quantization: {path.removesuffix(_SCALE)} is no layer that can be int8")
        layer.kernel_scale = nnx.data(nnx.Param(scale))
    return model
