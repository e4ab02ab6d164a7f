"""The page that `main.py --plan` prints."""

import jax
from jax.sharding import Mesh

from sare_jax.models.families import find_family
from sare_jax.models.interface import ModelShape
from sare_jax.models.shared import partition
from sare_jax.plan import analytic, compiled, programs, sizes
from sare_jax.settings.road import Config
from sare_jax.training.sharding import DATA, FSDP, make_mesh

_CPU = """\
The CPU's compiler computes bfloat16 products in float32, widening the weights of a layer at a time, and has
no flash attention, so its temporaries are larger than those of a GPU; here it orders the work for the least
memory. On a GPU this command has the GPU's own compiler speak."""

_AUTO = "Sizes that are auto have their defaults here; a run, and --plan_gpu, choose them by memory."


def plan(config: Config) -> None:
    """Prints parameters, mesh and peak memory of captioning and training; needs no more than config.json.

    Args:
      config: settings that a run would have.

    Raises:
      UserError: the model's shapes are not known, or the mesh does not fit the devices.
    """
    auto, config = config, sizes.usual(config)
    family = find_family(config.model)
    model_config, where = family.config_of(config.model)
    shapes = family.shape(model_config)
    mesh = make_mesh(config.model.data_parallel, config.model.fsdp)
    model = compiled.abstract_model(family, model_config, config.model, mesh)
    print(f"{config.model.folder}: shapes from {where}; no weights are read\n")
    print(partition.table(model.params, model.frozen))
    print(f"\n{_mesh(mesh)}\n{_texts(shapes)}", flush=True)
    if auto != config:
        print(_AUTO)
    for title, program, parts in _programs(config, shapes, model, mesh):
        print(f"\n{title}\n{_compiler(program)}\n{_shapes(parts)}", flush=True)
    if jax.default_backend() == "cpu":
        print(f"\n{_CPU}")


def _programs(config: Config, shapes: ModelShape, model: compiled.Abstract, mesh: Mesh):
    batch = sizes.captioning(config, shapes, mesh.size)
    beams = f", {batch.decoding.num_beams} beams" if batch.decoding.num_beams > 1 else ""
    yield (
        f"captioning: batch {batch.rows}, {batch.rows_at_once} a device{beams}, up to {batch.new} new tokens",
        compiled.captioning(model, mesh, batch).compile(),
        analytic.captioning_bytes(shapes, model.params, model.frozen, mesh, batch),
    )
    steps = (sizes.one_row_training(config, shapes, mesh.size), sizes.training(config, shapes, mesh.size))
    for step in dict.fromkeys(steps):
        parts = f" in {step.micro_batches} parts" if step.micro_batches > 1 else ""
        of_what = "captions with all their units" if step.packed else "of each set"
        yield (
            f"training step: batch {step.rows} {of_what}{parts}, {step.rows_at_once} a device at a time, "
            f"{step.length} tokens each, model.remat={step.remat}",
            compiled.training(model, mesh, step).compile(),
            analytic.training_bytes(shapes, model.params, model.frozen, mesh, step),
        )

    for title, planned in programs.attack_steps(config, shapes, model, mesh):
        yield (
            title,
            compiled.attacking(planned, mesh).compile(),
            analytic.attack_bytes(shapes, planned, mesh, sizes.length(shapes), config.model.remat),
        )


def _mesh(mesh: Mesh) -> str:
    kinds = ", ".join(sorted({device.device_kind for device in mesh.devices.flat}))
    return (
        f"mesh: {mesh.size} device{'s' if mesh.size > 1 else ''} ({kinds}): {DATA} {mesh.shape[DATA]} × "
        f"{FSDP} {mesh.shape[FSDP]}; rows over both axes, frozen weights divided by {mesh.shape[FSDP]}"
    )


def _texts(shapes: ModelShape) -> str:
    return (
        f"lengths: {shapes.num_image_tokens} tokens of the image; assumed are {sizes.PROMPT_TOKENS} of a "
        f"prompt and {sizes.ANSWER_TOKENS} of a caption to learn from"
    )


def _compiler(program: compiled.Compiled) -> str:
    return (
        f"  by the compiler (backend {jax.default_backend()}, {program.seconds:.0f} s): "
        f"{_gb(program.peak)} a device = {_gb(program.resident)} weights, state and batch + "
        f"{_gb(program.temporary)} temporary"
    )


def _shapes(parts: analytic.Parts) -> str:
    lines = [f"  by shapes, with bfloat16 products and flash attention: {_gb(sum(parts.values()))} a device"]
    lines += [f"    {_gb(size):>9}  {name}" for name, size in parts.items() if size]
    return "\n".join(lines)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
