"""Peak memory of a device by the compiler of the present backend; nothing is allocated or run."""

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, Sharding

from sare_jax.attacks import PlannedStep
from sare_jax.inference.generate import generate
from sare_jax.models import interface, load
from sare_jax.models.interface import Family, ModelShape
from sare_jax.models.shared import partition
from sare_jax.models.shared.target import Target
from sare_jax.objectives.ascent import ascent
from sare_jax.optim import AdamW
from sare_jax.plan.analytic import local_bytes
from sare_jax.plan.sizes import ANSWER_TOKENS, TARGETS, UNITS, Captioning, Training
from sare_jax.settings import ModelConfig
from sare_jax.training import gradients
from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import by_rows, compile_step, frozen_placement, gathering, replicated
from sare_jax.training.state import Hyper, init_state, unlearn_optimizer
from sare_jax.training.static import Static
from sare_jax.training.step import unlearn_step

# What keeps figures of XLA's CPU compiler comparable with an accelerator's.
_CPU_OPTIONS = {
    # A CPU computes bfloat16 products in float32. This pass would widen whole stacks of layers once, before
    # the loop over them, and hold 27 GB that no accelerator ever does; without it one layer is widened.
    "xla_disable_hlo_passes": "while-loop-invariant-code-motion",
    # The CPU's default order starts everything as early as it can, all gatherings of weights at once.
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}


@dataclass(frozen=True)
class Abstract:
    """A model as shapes and shardings; structure as in `LoadedModel`."""

    graphdef: nnx.GraphDef
    params: partition.Tree
    frozen: partition.Tree
    family: Family
    shape: ModelShape

    def merge(self, params: partition.Tree, frozen: partition.Tree) -> Any:
        """As `LoadedModel.merge`."""
        return interface.merge(self.graphdef, params, frozen)


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of one program.

    Attributes:
      resident: bytes of weights, state and batch on each device; the vision tower counts, although the
        program does not read it.
      temporary: further bytes on each device at the peak.
      seconds: time that compiling took.
      text: the compiled program in the compiler's own language.
    """

    resident: int
    temporary: int
    seconds: float
    text: str

    @property
    def peak(self) -> int:
        """Bytes that each device needs at the peak."""
        return self.resident + self.temporary


def abstract_model(family: Family, config: Any, settings: ModelConfig, mesh: Mesh) -> Abstract:
    """The model that `load_model` would place on the mesh.

    Raises:
      UserError: `settings.trainable` selects nothing or too much.
    """
    graphdef, shapes = load.abstract(family, config, Target.of(replicated(mesh)))
    trainable = settings.trainable or family.trainable
    chosen = partition.trainable_paths(shapes, trainable, at_most=0.5)
    place = frozen_placement(mesh, trainable, load.stacked_paths(family, config))
    table = {entry.path: entry for entry in family.entries(config)}
    trees: tuple[dict, dict] = ({}, {})
    for path, leaf in shapes.items():
        frozen = table[path].frozen_dtype(jnp.dtype(settings.dtype))
        dtype = jnp.float32 if path in chosen else frozen
        trees[path not in chosen][path] = jax.ShapeDtypeStruct(
            leaf.shape, dtype, sharding=place(path, leaf.shape)
        )
    return Abstract(
        graphdef,
        partition.unflatten(trees[0]),
        partition.unflatten(trees[1]),
        family,
        family.shape(config),
    )


def compile_training(model: Abstract, mesh: Mesh, sizes: Training) -> Compiled:
    """One training step.

    Args:
      model: the model as shapes and shardings.
      mesh: devices that share rows and weights.
      sizes: rows, lengths and micro-batches of a step.
    """
    optimizer = unlearn_optimizer(Hyper(0.0, 0.0, 0.0, AdamW()))
    state = jax.eval_shape(lambda params: init_state(params, optimizer, seed=0), model.params)
    whole = replicated(mesh)
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state)
    batch = abstract_batch(model, mesh, sizes)
    number = jax.ShapeDtypeStruct((), jnp.float32)
    hyper = jax.tree.map(lambda _: number, Hyper(0.0, 0.0, 0.0, AdamW()))
    static = Static(
        functools.partial(interface.merge, model.graphdef),
        ascent(),
        gradients.of_model(model),
        micro_batches=sizes.micro_batches,
        remat_policy=remat_policy(sizes.remat, mesh),
    )
    step = compile_step(unlearn_step, mesh, static)
    with gathering(mesh):
        return _compile(step.lower(state, model.frozen, batch, hyper), (state, model.frozen, batch))


def abstract_batch(model: Abstract, mesh: Mesh, sizes: Training) -> dict[str, Any]:
    """The batch of a step, as shapes; arguments as in `compile_training`."""
    rows = by_rows(mesh)
    if not sizes.packed:
        return {kind: _set(model, sizes, window, rows) for kind, window in TARGETS.items()}
    # The largest case: all captions have negatives, and these stand at the end.
    batch = {"neg": _captions(model, sizes, UNITS, rows), "second": _captions(model, sizes, ["neg"], rows)}
    del batch["second"]["features"]
    return batch


def compile_captioning(model: Abstract, mesh: Mesh, sizes: Captioning) -> Compiled:
    """One batch of captions: prefill and decoding; arguments as in `compile_training`."""
    rows, image = by_rows(mesh), (model.shape.num_image_features, model.shape.feature_width)
    tokens = _array((sizes.rows, sizes.prompt), jnp.int32, rows)
    lengths = _array((sizes.rows,), jnp.int32, rows)
    features = _array((sizes.rows, *image), _dtype(model), rows)
    held = (model.params, model.frozen, tokens, lengths, features)
    with gathering(mesh):
        lowered = generate.lower(
            model.graphdef, *held, max_new_tokens=sizes.new, end_ids=(2,), pad_id=0, decoding=sizes.decoding
        )
        return _compile(lowered, held)


def compile_planned(planned: PlannedStep, mesh: Mesh) -> Compiled:
    """An attack's training step."""
    with gathering(mesh):
        state, frozen, batch, _ = planned.arguments
        return _compile(planned.step.lower(*planned.arguments), (state, frozen, batch))


def _set(model: Abstract, sizes: Training, window: int, rows: Sharding) -> dict[str, jax.ShapeDtypeStruct]:
    image = (model.shape.num_image_features, model.shape.feature_width)
    return {
        "tokens": _array((sizes.rows, sizes.length), jnp.int32, rows),
        "targets": _array((sizes.rows, window), jnp.int32, rows),
        "start": _array((sizes.rows,), jnp.int32, rows),
        "end": _array((sizes.rows,), jnp.int32, rows),
        "valid": _array((sizes.rows,), jnp.float32, rows),
        "features": _array((sizes.rows, *image), _dtype(model), rows),
    }


def _captions(model: Abstract, sizes: Training, kinds: Iterable[str], rows: Sharding) -> dict[str, Any]:
    whole = _set(model, sizes, ANSWER_TOKENS, rows)
    units = {kind: _array((sizes.rows, UNITS[kind]), jnp.int32, rows) for kind in kinds}
    return {
        "tokens": whole["tokens"],
        "targets": whole["targets"],
        "positions": whole["targets"],
        "features": whole["features"],
        "units": {kind: {"start": edges, "end": edges} for kind, edges in units.items()},
    }


def _array(shape: tuple[int, ...], dtype: Any, sharding: Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _dtype(model: Abstract) -> Any:
    return jax.tree.leaves(model.frozen)[0].dtype


def _compile(lowered: Any, held: Any) -> Compiled:
    options = _CPU_OPTIONS if jax.default_backend() == "cpu" else {}
    start = time.monotonic()
    program = lowered.compile(compiler_options=options)
    seconds = time.monotonic() - start
    memory = program.memory_analysis()
    # The donated state's output lies where the state did.
    fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Compiled(local_bytes(held), memory.temp_size_in_bytes + fresh, seconds, program.as_text())
