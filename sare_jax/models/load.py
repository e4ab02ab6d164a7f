"""A model of any family from its published files: weights stream from the files to their devices."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sare_jax.errors import UserError
from sare_jax.models.families import open_source
from sare_jax.models.interface import Family, LoadedModel, Source
from sare_jax.models.shared import partition
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.generation import read_generation
from sare_jax.models.shared.quantization import KERNEL, scale_path
from sare_jax.models.shared.streaming import read_int8, read_parameter
from sare_jax.models.shared.target import Target
from sare_jax.models.shared.weight_files import Tensor

Placement = Callable[[str, tuple[int, ...]], jax.sharding.Sharding]

_SAMPLE_BLOCK = 4096
_SAMPLES = 16
_SHOWN = 10  # names in a message


def abstract(
    family: Family, config: Any, target: Target
) -> tuple[nnx.GraphDef, dict[str, jax.ShapeDtypeStruct]]:
    """Structure and '/'-joined parameter shapes of a model, without allocating any."""
    graphdef, state = nnx.split(jax.eval_shape(lambda: family.build(config, target, nnx.Rngs(0))))
    leaves, _ = jax.tree.flatten_with_path(state)
    shapes = {}
    for path, leaf in leaves:
        keys = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        shapes["/".join(keys)] = leaf
    return graphdef, shapes


def stacked_paths(family: Family, config: Any) -> frozenset[str]:
    """The parameters whose first axis numbers the layers."""
    return frozenset(entry.path for entry in family.entries(config) if entry.layers)


def int8_paths(family: Family, config: Any, quantization: str) -> frozenset[str]:
    """The kernels of the language model's layers that are int8, unless trained; none where it is not asked.

    Args:
      family: the model's family.
      config: the model's shapes.
      quantization: as `model.quantization`.
    """
    if quantization == "none":
        return frozenset()
    layers = family.shape(config).layers
    kernels = (entry.path for entry in family.entries(config) if entry.layers)
    return frozenset(path for path in kernels if path.startswith(layers) and path.endswith(KERNEL))


def load_model(
    source: Source | Path,
    *,
    dtype: Any,
    quantization: str = "none",
    trainable: str = "",
    max_trainable: float = 0.5,
    placement: Placement | None = None,
) -> LoadedModel:
    """Loads a model.

    Each parameter is read by slices, transposed and cast on the way to its device, so that beyond the arrays
    themselves only one slice at a time is held.

    Args:
      source: an opened base model (`families.open_source`), or its folder.
      dtype: dtype of the frozen parameters, except those for which the name table has another
        (`Entry.beside`); trainable parameters are float32.
      quantization: `int8` for int8 kernels in the language model's layers (`shared.quantization`), or `none`.
      trainable: regular expression on whole '/'-joined parameter paths; empty takes the family's.
      max_trainable: the largest share of all parameters that may be trainable.
      placement: (path, shape) -> sharding; without it everything lies on the default device. An int8 kernel
        may be divided along its output channels alone.

    Raises:
      UserError: files are missing or broken; a tensor is missing, unexpected or mis-shaped (all are listed);
        `trainable` selects nothing or too much; weights are NaN or infinite; or a file asks for generation
        that is not done here.
    """
    source = open_source(source) if isinstance(source, Path) else source
    family, config, tensors = source.family, source.config, source.tensors
    place = placement or _on_default_device
    # The first one speaks for all: every parameter lies on the same devices, whole or divided.
    table = family.entries(config)
    graphdef, shapes = abstract(family, config, Target.of(place(table[0].path, ())))
    chosen = partition.trainable_paths(shapes, trainable or family.trainable, at_most=max_trainable)
    check_names(source, shapes)

    flat = {}
    as_int8 = int8_paths(family, config, quantization) - chosen
    for entry in table:
        shape = shapes[entry.path].shape
        sources = [tensors[name] for name in entry.names()]
        where = place(entry.path, shape)
        if entry.path in as_int8:
            flat[entry.path], flat[scale_path(entry.path)] = read_int8(entry, sources, shape, where)
            continue
        kind = np.dtype(np.float32) if entry.path in chosen else entry.frozen_dtype(jnp.dtype(dtype))
        flat[entry.path] = read_parameter(entry, sources, shape, kind, where)
    _refuse_nonfinite(source, flat)
    return LoadedModel(
        graphdef=graphdef,
        params=partition.unflatten({path: leaf for path, leaf in flat.items() if path in chosen}),
        frozen=partition.unflatten({path: leaf for path, leaf in flat.items() if path not in chosen}),
        config=config,
        family=family,
        source=source,
        content_hash=content_hash(source),
        generation=read_generation(source.folder),
    )


def _refuse_nonfinite(source: Source, flat: Mapping[str, jax.Array]) -> None:
    """Refuses weights with NaN or infinity, with which every answer would be the same nonsense."""
    finite = jax.device_get({path: _all_finite(array) for path, array in flat.items()})
    wrong = [path for path, yes in finite.items() if not yes]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(
            f"{source}: NaN or infinity in the weights of {', '.join(wrong[:_SHOWN])}{more}; download the "
            "model again"
        )


@jax.jit
def _all_finite(array: jax.Array) -> jax.Array:
    return jnp.isfinite(array).all()


def parameter_table(loaded: LoadedModel) -> str:
    """Trainable and frozen counts and bytes, and what is trainable, to be printed at start-up."""
    return partition.table(loaded.params, loaded.frozen)


def check_names(source: Source, shapes: Mapping[str, Any]) -> None:
    """Checks the tensors of a base model against its family's name table.

    Args:
      source: the base model.
      shapes: '/'-joined path of a parameter -> anything with a `shape`.

    Raises:
      UserError: lists everything that is missing, unexpected, mis-shaped or no floating-point tensor, under
        the names of the files.
    """
    family, tensors, config = source.family, source.tensors, source.config
    table: list[Entry] = family.entries(config)
    needed = {name: entry.hub_shape(shapes[entry.path].shape) for entry in table for name in entry.names()}
    present = {name: tensors[name] for name in needed if name in tensors}
    problems = {
        "missing": [source.written_name(name) for name in needed if name not in tensors],
        "unexpected": [
            tensor.name
            for name, tensor in tensors.items()
            if name not in needed and not family.is_unused(name, config)
        ],
        "mis-shaped": [
            f"{tensor.name} is {list(tensor.shape)}, need {list(needed[name])}"
            for name, tensor in present.items()
            if tensor.shape != needed[name]
        ],
        "no weights": [
            f"{tensor.name} is {tensor.dtype}"
            for tensor in present.values()
            if not jnp.issubdtype(tensor.dtype, jnp.floating)
        ],
    }
    wrong = [f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    if wrong:
        raise UserError(f"{source}: the weights do not fit config.json; {'; '.join(wrong)}")


def content_hash(source: Source) -> str:
    """Names a base model by its content, in hex, that of its parts in folders of their own included.

    SHA-256 over the config as read, and of every tensor but buffers, in the order of the table's names: name,
    dtype, shape, and its bytes. Of a tensor above 64 KiB the bytes are sixteen blocks of 4 KiB, evenly spaced
    from its first to its last. So it takes a moment for 13 GB too, and does not depend on shards, on the file
    format, or on the form of the names. It tells apart models and any training of any tensor, since training
    moves nearly all elements of a tensor; a change made by hand to a few elements of a large one can go
    unseen.
    """
    digest = hashlib.sha256(json.dumps(asdict(source.config), sort_keys=True).encode())
    for name in sorted(name for name in source.tensors if not source.family.is_buffer(name)):
        tensor = source.tensors[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        for block in _sampled(tensor):
            digest.update(block.data)
    return digest.hexdigest()


def _sampled(tensor: Tensor) -> list[np.ndarray]:
    raw = np.ascontiguousarray(tensor.map()).reshape(-1).view(np.uint8)
    if raw.size <= _SAMPLES * _SAMPLE_BLOCK:
        return [raw]
    starts = np.linspace(0, raw.size - _SAMPLE_BLOCK, _SAMPLES).astype(np.int64)
    return [raw[start : start + _SAMPLE_BLOCK] for start in starts]


def _on_default_device(path: str, shape: tuple[int, ...]) -> jax.sharding.Sharding:
    del path, shape
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])
