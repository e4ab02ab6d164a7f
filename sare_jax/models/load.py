"""A LLaVA from its published files: weights stream from the files to their devices."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sare_jax.errors import UserError
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.modeling import Llava
from sare_jax.models.llava.names import Row, is_buffer, is_unused, rows
from sare_jax.models.llava.source import Source, open_source
from sare_jax.models.shared import partition
from sare_jax.models.shared.streaming import read_parameter
from sare_jax.models.shared.weight_files import Tensor

Placement = Callable[[str, tuple[int, ...]], jax.sharding.Sharding]

_SAMPLE_BLOCK = 4096
_SAMPLES = 16


@dataclass(frozen=True)
class LoadedLlava:
    """A model, divided into what is trained and what is not.

    Attributes:
      graphdef: the structure without weights; hashable, so it may be a static argument of `jax.jit`.
      params: the trainable parameters, nested dictionaries of float32 arrays.
      frozen: all others, in the dtype asked for.
      config: shapes and constants.
      source: where it came from.
      content_hash: names the weights and shapes (see `content_hash`).
    """

    graphdef: nnx.GraphDef
    params: partition.Tree
    frozen: partition.Tree
    config: LlavaConfig
    source: Source
    content_hash: str

    @property
    def folder(self) -> Path:
        """Main folder of the base model."""
        return self.source.folder

    def merge(self, params: partition.Tree, frozen: partition.Tree) -> Llava:
        """The model with these weights; also inside `jax.jit`, with the weights as arguments."""
        return merge(self.graphdef, params, frozen)


def merge(graphdef: nnx.GraphDef, params: partition.Tree, frozen: partition.Tree) -> Llava:
    """The model of this structure with these weights; pure, so it may be called inside `jax.jit`."""
    return nnx.merge(graphdef, partition.combine(params, frozen))


def abstract(config: LlavaConfig) -> tuple[nnx.GraphDef, dict[str, jax.ShapeDtypeStruct]]:
    """Structure and '/'-joined parameter shapes of a model, without allocating any."""
    graphdef, state = nnx.split(jax.eval_shape(lambda: Llava(config, rngs=nnx.Rngs(0))))
    leaves, _ = jax.tree.flatten_with_path(state)
    shapes = {}
    for path, leaf in leaves:
        keys = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        shapes["/".join(keys)] = leaf
    return graphdef, shapes


def load_llava(
    source: Source | Path,
    *,
    dtype: Any,
    trainable: str = r"projector/.*",
    max_trainable: float = 0.5,
    placement: Placement | None = None,
) -> LoadedLlava:
    """Loads a LLaVA.

    Each parameter is read by slices, transposed and cast on the way to its device, so that beyond the arrays
    themselves only one slice at a time is held.

    Args:
      source: from `open_source`; a folder is opened as one.
      dtype: of the frozen parameters; the trainable ones are float32.
      trainable: regular expression on whole '/'-joined parameter paths.
      max_trainable: the largest share of all parameters that may be trainable.
      placement: (path, shape) -> sharding; without it everything lies on the default device.

    Raises:
      UserError: files are missing or broken; a tensor is missing, unexpected or mis-shaped (all are listed);
        or `trainable` selects nothing or too much.
    """
    source = source if isinstance(source, Source) else open_source(Path(source))
    config, tensors = source.config, source.tensors
    graphdef, shapes = abstract(config)
    chosen = partition.trainable_paths(shapes, trainable, at_most=max_trainable)
    table = rows(config)
    check_names(source, table, shapes)

    flat = {}
    for row in table:
        shape = shapes[row.path].shape
        kind = np.dtype(np.float32 if row.path in chosen else jnp.dtype(dtype))
        sources = [tensors[name] for name in row.names()]
        sharding = placement(row.path, shape) if placement else _default_sharding()
        flat[row.path] = read_parameter(row, sources, shape, kind, sharding)
    return LoadedLlava(
        graphdef=graphdef,
        params=partition.unflatten({path: leaf for path, leaf in flat.items() if path in chosen}),
        frozen=partition.unflatten({path: leaf for path, leaf in flat.items() if path not in chosen}),
        config=config,
        source=source,
        content_hash=content_hash(config, tensors),
    )


def parameter_table(loaded: LoadedLlava) -> str:
    """Trainable and frozen counts and bytes, and what is trainable, to be printed at start-up."""
    return partition.table(loaded.params, loaded.frozen)


def check_names(source: Source, table: list[Row], shapes: Mapping[str, Any]) -> None:
    """Checks the tensors of a base model against the name table.

    Args:
      source: from `open_source`.
      table: from `llava_names.rows`.
      shapes: path here -> anything with a `shape`.

    Raises:
      UserError: lists everything that is missing, unexpected, mis-shaped or no floating-point tensor, under
        the names of the files.
    """
    tensors, config = source.tensors, source.config
    needed = {name: row.hub_shape(shapes[row.path].shape) for row in table for name in row.names()}
    there = {name: tensors[name] for name in needed if name in tensors}
    unexpected = [name for name in tensors if name not in needed and not is_unused(name, config)]
    misshaped = {name: tensor for name, tensor in there.items() if tensor.shape != needed[name]}
    integers = {
        name: tensor for name, tensor in there.items() if not jnp.issubdtype(tensor.dtype, jnp.floating)
    }
    problems = {
        "missing": [source.written_name(name) for name in needed if name not in tensors],
        "unexpected": [tensors[name].name for name in unexpected],
        "mis-shaped": [
            f"{tensor.name} is {list(tensor.shape)}, need {list(needed[name])}"
            for name, tensor in misshaped.items()
        ],
        "no weights": [f"{tensor.name} is {tensor.dtype}" for tensor in integers.values()],
    }
    found = [f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    if found:
        where = f"{source.folder} with vision tower {source.tower}" if source.tower else source.folder
        raise UserError(f"{where}: the weights do not fit config.json; {'; '.join(found)}")


def content_hash(config: LlavaConfig, tensors: Mapping[str, Tensor]) -> str:
    """Names a base model by its content, in hex, the vision tower's included wherever it lies.

    SHA-256 over the config as read, and of every tensor but buffers, in the order of the hub's names: name,
    dtype, shape, and its bytes. Of a tensor above 64 KiB the bytes are sixteen blocks of 4 KiB, evenly spaced
    from its first to its last. So it takes a moment for 13 GB too, and does not depend on shards, on the file
    format, or on the form of the names. It tells apart models and any training of any tensor, since training
    moves nearly all elements of a tensor; a change made by hand to a few elements of a large one can go
    unseen.
    """
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for name in sorted(name for name in tensors if not is_buffer(name)):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        for block in _sampled(tensor):
            digest.update(block)
    return digest.hexdigest()


def _sampled(tensor: Tensor) -> list[np.ndarray]:
    raw = np.ascontiguousarray(tensor.map()).reshape(-1).view(np.uint8)
    if raw.size <= _SAMPLES * _SAMPLE_BLOCK:
        return [raw]
    places = np.linspace(0, raw.size - _SAMPLE_BLOCK, _SAMPLES).astype(np.int64)
    return [raw[place : place + _SAMPLE_BLOCK] for place in places]


def _default_sharding() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])
