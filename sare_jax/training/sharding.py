"""Data parallelism: one mesh axis over the rows of a batch, everything else replicated."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sare_jax.errors import UserError

DATA = "data"


def data_mesh(num_devices: int = 0) -> Mesh:
    """A mesh of one axis, `data`.

    Args:
      num_devices: the first so many devices; 0 takes all.

    Raises:
      UserError: there are fewer devices.
    """
    devices = jax.devices()
    if num_devices > len(devices):
        raise UserError(
            f"model.data_parallel is {num_devices}, but jax sees {len(devices)} devices; lower it (0: all)"
        )
    devices = devices[: num_devices or None]
    # Auto, since the default of jax.make_mesh is Explicit, under which shardings become part of types.
    return jax.make_mesh((len(devices),), (DATA,), (AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh) -> NamedSharding:
    """The leading axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA))


@functools.cache
def compile_step(step: Callable[..., Any], mesh: Mesh, **static: Any) -> Callable[..., Any]:
    """Jits `step(state, frozen, batch, hyper, **static) -> (state, metrics)` for a mesh, donating the state.

    The same arguments give the same function, so that runs which differ in numbers alone compile once. State
    and metrics are replicated and the batch lies by rows; the frozen weights stay as they were placed.

    Args:
      step: `unlearn_step` or `finetune_step`.
      mesh: from `data_mesh`.
      **static: the step's keyword-only arguments, hashable.
    """
    whole, rows = replicated(mesh), by_rows(mesh)
    return jax.jit(
        functools.partial(step, **static),
        in_shardings=(whole, None, rows, whole),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )
