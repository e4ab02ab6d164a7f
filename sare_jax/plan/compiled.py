"""The programs of a run, lowered from shapes and compiled for a mesh; nothing is allocated or run."""

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, Sharding

from sare_jax.attacks import PlannedStep
from sare_jax.inference.generate import generate
from sare_jax.models import interface, load
from sare_jax.models.interface import Family, ModelShape
from sare_jax.models.shared import partition, quantization
from sare_jax.models.shared.target import Target
from sare_jax.objectives.ascent import ascent
from sare_jax.optim import AdamW, Perturbation, adamw
from sare_jax.plan.analytic import local_bytes
from sare_jax.plan.sizes import ANSWER_TOKENS, TARGETS, UNITS, Captioning, Training
from sare_jax.settings import ModelConfig
from sare_jax.training import gradients
from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import by_rows, compile_step, frozen_placement, gathering, replicated
from sare_jax.training.state import Hyper, efuf_optimizer, init_state, unlearn_optimizer
from sare_jax.training.static import Static
from sare_jax.training.step import PLAIN, efuf_step, finetune_step, unlearn_step

# What keeps figures of XLA's CPU compiler comparable with an accelerator's.
_CPU_OPTIONS = {
    # A CPU computes bfloat16 products in float32. This pass would widen whole stacks of layers once, before
    # the loop over them, and hold 27 GB that no accelerator ever does; without it one layer is widened.
    "xla_disable_hlo_passes": "while-loop-invariant-code-motion",
    # The CPU's default order starts everything as early as it can, all gatherings of weights at once.
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}
# Kernels are not timed against each other on a card that is not there.
_DESCRIBED_OPTIONS: dict[str, Any] = {"xla_gpu_autotune_level": 0}
# Where products are not timed, XLA's own kernel fails on some shapes, which timing would leave to cuBLAS.
_BY_CUBLAS = _DESCRIBED_OPTIONS | {"xla_gpu_enable_triton_gemm": False}


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


@dataclass(frozen=True)
class Program:
    """A program before it is compiled.

    Attributes:
      jaxpr: its operations, over all devices.
      lowered: what the compiler reads.
      held: shapes with shardings of weights, state and batch.
      mesh: the devices that it is for.
    """

    jaxpr: Any
    lowered: jax.stages.Lowered
    held: Any
    mesh: Mesh

    def compile(self) -> Compiled:
        """Has the compiler of the mesh's devices speak, which takes from seconds to minutes."""
        start = time.monotonic()
        compiled = self._compiled()
        seconds = time.monotonic() - start
        text = compiled.as_text()
        assert text is not None
        return Compiled(*memory_of(compiled, self.held), seconds, text)

    def _compiled(self) -> jax.stages.Compiled:
        options = _options(self.mesh)
        try:
            return self.lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            if options is not _DESCRIBED_OPTIONS or not str(error).startswith("INTERNAL"):
                raise
            return self.lowered.compile(compiler_options=_BY_CUBLAS)


def memory_of(compiled: jax.stages.Compiled, held: Any) -> tuple[int, int]:
    """Bytes on each device: of what a program is given (`Program.held`), and what it takes besides."""
    memory = compiled.memory_analysis()
    assert memory is not None
    # The donated state's output lies where the state did.
    fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return local_bytes(held), memory.temp_size_in_bytes + fresh


def abstract_model(family: Family, config: Any, settings: ModelConfig, mesh: Mesh) -> Abstract:
    """The model that `load_model` would place on the mesh.

    Raises:
      UserError: `settings.trainable` selects nothing or too much.
    """
    graphdef, shapes = load.abstract(family, config, Target.of(replicated(mesh)))
    trainable = settings.trainable or family.trainable
    chosen = partition.trainable_paths(shapes, trainable, at_most=0.5)
    int8 = load.int8_paths(family, config, settings.quantization)
    place = frozen_placement(mesh, trainable, load.stacked_paths(family, config), int8)
    table = {entry.path: entry for entry in family.entries(config)}
    trees: tuple[dict, dict] = ({}, {})
    for path, leaf in shapes.items():
        shape, where = leaf.shape, place(path, leaf.shape)
        if path in int8 - chosen:
            beside = quantization.scale_sharding(where, len(shape))
            trees[1][path] = array(shape, jnp.int8, where)
            trees[1][quantization.scale_path(path)] = array(
                quantization.scale_shape(shape), jnp.float32, beside
            )
            continue
        frozen = table[path].frozen_dtype(jnp.dtype(settings.dtype))
        trees[path not in chosen][path] = array(shape, jnp.float32 if path in chosen else frozen, where)
    return Abstract(
        graphdef,
        partition.unflatten(trees[0]),
        partition.unflatten(trees[1]),
        family,
        family.shape(config),
    )


def training(model: Abstract, mesh: Mesh, sizes: Training) -> Program:
    """One training step.

    Args:
      model: the model as shapes and shardings.
      mesh: devices that share rows and weights.
      sizes: rows, lengths and micro-batches of a step.
    """
    hyper = Hyper(0.0, 0.0, 0.0, AdamW())
    if sizes.perturbation is None:
        step, optimizer = efuf_step, efuf_optimizer(hyper)
    else:
        step, optimizer = unlearn_step, unlearn_optimizer(hyper, sizes.perturbation)
    static = Static(
        functools.partial(interface.merge, model.graphdef),
        ascent(),
        gradients.of_model(model),
        sizes.perturbation or Perturbation(),
        micro_batches=sizes.micro_batches,
        remat_policy=remat_policy(sizes.remat, mesh),
    )
    batch = abstract_batch(model, mesh, sizes)
    return _step(compile_step(step, mesh, static), model, mesh, optimizer, batch, hyper)


def relearning(model: Abstract, mesh: Mesh, sizes: Training) -> Program:
    """One step of plain fine-tuning on units, as relearning attacks take it; arguments as in `training`."""
    static = Static(
        functools.partial(interface.merge, model.graphdef),
        PLAIN,
        gradients.of_model(model),
        remat_policy=remat_policy(sizes.remat, mesh),
    )
    batch = unit_rows(model, sizes, TARGETS["neg"], by_rows(mesh))
    step = compile_step(finetune_step, mesh, static)
    return _step(step, model, mesh, adamw(AdamW()), batch, AdamW())


def _step(
    step: jax.stages.Wrapped,
    model: Abstract,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    batch: Any,
    settings: Any,
) -> Program:
    state = jax.eval_shape(lambda params: init_state(params, optimizer, seed=0), model.params)
    whole = replicated(mesh)
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state)
    numbers = jax.tree.map(lambda _: jax.ShapeDtypeStruct((), jnp.float32), settings)
    with gathering(mesh):
        traced = step.trace(state, model.frozen, batch, numbers)
        return Program(traced.jaxpr, traced.lower(), (state, model.frozen, batch), mesh)


def abstract_batch(model: Abstract, mesh: Mesh, sizes: Training) -> dict[str, Any]:
    """The batch of a step, as shapes; arguments as in `training`."""
    rows = by_rows(mesh)
    if not sizes.packed:
        return {kind: unit_rows(model, sizes, window, rows) for kind, window in TARGETS.items()}
    # The largest case: all captions have negatives, and these stand at the end.
    batch = {"neg": _captions(model, sizes, UNITS, rows), "second": _captions(model, sizes, ["neg"], rows)}
    del batch["second"]["features"]
    return batch


def captioning(model: Abstract, mesh: Mesh, sizes: Captioning) -> Program:
    """One batch of captions or answers: prefill and decoding; arguments as in `training`."""
    rows, image = by_rows(mesh), (model.shape.num_image_features, model.shape.feature_width)
    tokens = array((sizes.rows, sizes.prompt), jnp.int32, rows)
    lengths = array((sizes.rows,), jnp.int32, rows)
    features = array((sizes.rows, *image), frozen_dtype(model), rows)
    held = (model.params, model.frozen, tokens, lengths, features)
    further: dict[str, Any] = {}
    if sizes.tail:
        ends = array((sizes.rows, sizes.questions), jnp.int32, rows)
        further = {"tails": array((*ends.shape, sizes.tail), jnp.int32, rows), "ends": ends}
    settings = {"max_new_tokens": sizes.new, "end_ids": (2,), "pad_id": 0, "decoding": sizes.decoding}
    with gathering(mesh):
        traced = generate.trace(model.graphdef, *held, **further, **settings)
        return Program(traced.jaxpr, traced.lower(), held, mesh)


def attacking(planned: PlannedStep, mesh: Mesh) -> Program:
    """An attack's training step."""
    with gathering(mesh):
        traced = planned.step.trace(*planned.arguments)
        return Program(traced.jaxpr, traced.lower(), planned.arguments[:3], mesh)


def unit_rows(
    model: Abstract, sizes: Training, window: int, rows: Sharding
) -> dict[str, jax.ShapeDtypeStruct]:
    """Rows of one unit each, with targets of at most `window` tokens."""
    image = (model.shape.num_image_features, model.shape.feature_width)
    return {
        "tokens": array((sizes.rows, sizes.length), jnp.int32, rows),
        "targets": array((sizes.rows, window), jnp.int32, rows),
        "start": array((sizes.rows,), jnp.int32, rows),
        "end": array((sizes.rows,), jnp.int32, rows),
        "valid": array((sizes.rows,), jnp.float32, rows),
        "features": array((sizes.rows, *image), frozen_dtype(model), rows),
    }


def _captions(model: Abstract, sizes: Training, kinds: Iterable[str], rows: Sharding) -> dict[str, Any]:
    whole = unit_rows(model, sizes, ANSWER_TOKENS, rows)
    units = {kind: array((sizes.rows, UNITS[kind]), jnp.int32, rows) for kind in kinds}
    return {
        "tokens": whole["tokens"],
        "targets": whole["targets"],
        "positions": whole["targets"],
        "features": whole["features"],
        "units": {kind: {"start": edges, "end": edges} for kind, edges in units.items()},
    }


def array(shape: tuple[int, ...], dtype: Any, sharding: Sharding) -> jax.ShapeDtypeStruct:
    """An array as its shape and place."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def frozen_dtype(model: Abstract) -> Any:
    """Number format of the frozen weights, and of image features."""
    return jax.tree.leaves(model.frozen)[0].dtype


def _options(mesh: Mesh) -> dict[str, Any]:
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return _CPU_OPTIONS
    return {} if device in jax.devices() else _DESCRIBED_OPTIONS
