"""Where arrays lie: rows divided over all devices, frozen weights over some of them, the rest whole on each.

The mesh has two axes, `data` and `fsdp`. Every device holds rows of its own, so the rows of a batch lie over
both. The frozen weights are divided over `fsdp` and repeated along `data`; a layer's are gathered when it
runs (`models.layers.gathered`). Trainable parameters, optimizer state and metrics are whole on each device.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sare_jax import hosts
from sare_jax.errors import UserError
from sare_jax.models.interface import LoadedModel, Source
from sare_jax.models.load import int8_paths, load_model, stacked_paths
from sare_jax.settings.model import ModelConfig

DATA, FSDP = "data", "fsdp"

Placement = Callable[[str, tuple[int, ...]], NamedSharding]


def make_mesh(data_parallel: int = 0, fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a run: `data_parallel` × `fsdp` devices.

    Args:
      data_parallel: devices that hold different rows and the same weights; 0 is all that `fsdp` leaves.
      fsdp: devices over which the frozen weights are divided.
      devices: those to use; None takes what jax sees.

    Raises:
      UserError: the devices do not suffice or cannot be divided so; names the key and their number.
    """
    devices = jax.devices() if devices is None else devices
    there = f"jax sees {len(devices)} device{'s' if len(devices) > 1 else ''}"
    if fsdp > len(devices):
        raise UserError(f"model.fsdp is {fsdp}, but {there}; lower it (1: weights whole on each)")
    if not data_parallel and len(devices) % fsdp:
        raise UserError(
            f"model.fsdp is {fsdp}, but {there}, which {fsdp} does not divide; choose a divisor, or say how "
            f"many share the rows: model.data_parallel={len(devices) // fsdp}"
        )
    data_parallel = data_parallel or len(devices) // fsdp
    used = data_parallel * fsdp
    if used > len(devices):
        product = f" × model.fsdp {fsdp}" if fsdp > 1 else ""
        raise UserError(f"model.data_parallel is {data_parallel}{product}, but {there}; lower it (0: all)")
    if hosts.several() and used < len(devices):
        raise UserError(
            f"model.data_parallel × model.fsdp is {used}, but {there} on {jax.process_count()} hosts, and "
            "each host has to take part; set model.data_parallel to 0"
        )
    # Auto, since the default of jax.make_mesh is Explicit, under which shardings become part of types.
    return jax.make_mesh(
        (data_parallel, fsdp), (DATA, FSDP), (AxisType.Auto, AxisType.Auto), devices=devices[:used]
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh) -> NamedSharding:
    """The leading axis divided over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def frozen_placement(
    mesh: Mesh, trainable: str, stacked: Collection[str], int8: Collection[str] = ()
) -> Placement:
    """Where each parameter lies, (path, shape) → sharding; for `load_model`, which reads only what is needed.

    A frozen matrix is divided along its first axis that `fsdp` divides, never along the axis that numbers the
    layers: a loop over layers then gathers one layer at a time. Parts of the first axis lie one behind the
    other in the whole; of a later axis, the compiler keeps a transposed copy of all layers. An int8 kernel is
    divided along its last axis all the same, so that each device finds the scales of its own channels.
    Vectors (norms, biases), matrices without such an axis and trainable parameters are whole on each device.

    Args:
      mesh: the run's devices as (`data`, `fsdp`); frozen matrices are divided over `fsdp`.
      trainable: regular expression on whole paths, as in `load_model`; not empty.
      stacked: paths of the parameters whose first axis numbers the layers.
      int8: paths of the kernels that are int8 where they are frozen.
    """
    parts = mesh.shape[FSDP]

    def place(path: str, shape: tuple[int, ...]) -> NamedSharding:
        first = 1 if path in stacked else 0
        axes = range(len(shape) - 1 if path in int8 else first, len(shape))
        divisible = [axis for axis in axes if shape[axis] % parts == 0]
        if parts == 1 or len(shape) - first < 2 or not divisible or re.fullmatch(trainable, path):
            return replicated(mesh)
        return NamedSharding(mesh, PartitionSpec(*[None] * divisible[0], FSDP))

    return place


def load_onto(mesh: Mesh, source: Source, settings: ModelConfig) -> LoadedModel:
    """Reads a model from its folder into the memory of the mesh's devices.

    Args:
      mesh: from `make_mesh`.
      source: the opened folder.
      settings: precision of the frozen weights, int8 or not, and what is trained; empty takes the family's
        mapping layers.

    Raises:
      UserError: the files are broken or do not fit together.
    """
    trainable = settings.trainable or source.family.trainable
    family, config, quantization = source.family, source.config, settings.quantization
    placement = frozen_placement(
        mesh, trainable, stacked_paths(family, config), int8_paths(family, config, quantization)
    )
    return load_model(
        source,
        dtype=settings.dtype,
        quantization=quantization,
        trainable=trainable,
        placement=placement,
    )


def gathering(mesh: Mesh) -> contextlib.AbstractContextManager:
    """A context in which models, traced or called, gather weights that are divided over `fsdp`.

    Without such weights it does nothing: a constraint on whole ones would only keep them in memory twice.
    """
    return jax.set_mesh(mesh) if mesh.shape[FSDP] > 1 else contextlib.nullcontext()


def spread_rows(batch: Any, mesh: Mesh) -> Any:
    """Divides the rows of a batch over the devices; each of several hosts fills its own devices.

    Args:
      batch: a tree of [B, …] host arrays, the same on every host.
      mesh: the run's devices, whose number divides B.
    """
    sharding = by_rows(mesh)
    if not hosts.several():
        return jax.device_put(batch, sharding)

    def place(rows: Any) -> jax.Array:
        rows = np.asarray(rows)
        return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])

    return jax.tree.map(place, batch)


def on_mesh(make: Callable[..., Any], mesh: Mesh, *args: Any) -> Any:
    """`make(*args)`, computed on the mesh's devices; each gets a whole copy in new memory."""
    return jax.jit(make, out_shardings=replicated(mesh))(*args)


@functools.cache
def compile_step(step: Callable[..., Any], mesh: Mesh, static: Hashable) -> jax.stages.Wrapped:
    """Jits `step(state, frozen, batch, hyper, static) -> (state, metrics)` for a mesh, donating the state.

    The same arguments give the same function, so that runs which differ in numbers alone compile once. State
    and metrics are replicated and the batch lies by rows; the frozen weights stay as they were placed. To be
    called inside `gathering(mesh)`.

    Args:
      step: `unlearn_step`, `efuf_step` or `finetune_step`.
      mesh: the run's devices, over which rows and frozen weights are divided.
      static: everything of the step that is no array (`Static`); another value is another program.

    Returns:
      The compiled function (state, frozen, batch, hyper) → (next state, metrics).
    """
    whole, rows = replicated(mesh), by_rows(mesh)
    return jax.jit(
        functools.partial(step, static=static),
        in_shardings=(whole, None, rows, whole),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )
