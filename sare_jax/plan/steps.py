"""The programs of the stage `unlearn`: each run's step, and what it asks of the starting weights before."""

import dataclasses
import math
from collections.abc import Iterator
from functools import partial

from jax.sharding import Mesh

from sare_jax.models.interface import ModelShape
from sare_jax.objectives.needs import StartingNeed
from sare_jax.plan import compiled, forward, sizes
from sare_jax.plan.compiled import Abstract, Program
from sare_jax.plan.planned import IMAGES, NEGATIVES, Planned, Scale, batches, num_steps, row_counts
from sare_jax.rounding import round_up
from sare_jax.settings.auto import AUTO
from sare_jax.settings.optim import OptimConfig, objective_of
from sare_jax.settings.road import Config
from sare_jax.settings.samples import ChoiceSamples
from sare_jax.training import asking, parts
from sare_jax.training.unlearn import ROWS_PER_IMAGE

# Tokens of the longest question behind what an image's have in common, and objects where all are asked about.
TAIL, OBJECTS = 16, 500


def training(config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh) -> Iterator[Planned]:
    """Steps, those that are alike once; questions and starting values of the runs that need them."""
    alike: dict[tuple[sizes.Training, bool], list[str]] = {}
    numbered = sizes.usual(config)
    for name, run in config.runs.items():
        step = sizes.of_run(numbered.runs[name], config.model.remat, shapes, mesh.size)
        alike.setdefault((step, run.micro_batches == AUTO), []).append(name)
    for name, run in config.runs.items():
        yield from _before(name, run, config, shapes, model, mesh)
    for (step, is_auto), names in alike.items():
        runs = [config.runs[name] for name in names]
        yield _step(step, names, runs, is_auto, model, mesh)


def _step(
    step: sizes.Training,
    names: list[str],
    runs: list[OptimConfig],
    is_auto: bool,
    model: Abstract,
    mesh: Mesh,
) -> Planned:
    of_what = "captions with all their units" if step.packed else "of each set"
    keys = sorted({f"config.runs.{name}.micro_batches" for name in names})

    def about(value: int) -> str:
        now = _in_parts(step, value, runs, mesh) if is_auto else dataclasses.replace(step, rows=value)
        cut = f" in {now.micro_batches} parts" if now.micro_batches > 1 else ""
        return (
            f"training step of {', '.join(names)}: batch {now.rows} {of_what}{cut}, {now.rows_at_once} a "
            f"device at a time, {step.length} tokens each, model.remat={step.remat}"
        )

    def make(value: int) -> Program:
        now = _in_parts(step, value, runs, mesh) if is_auto else dataclasses.replace(step, rows=value)
        return compiled.training(model, mesh, now)

    if is_auto:
        allowed = parts.allowed(runs[0].batch_size, mesh.size)
        scale = Scale(", ".join(keys), 1, allowed[::-1], make, "number of micro-batches", True)
    else:
        multiple = mesh.size * step.micro_batches
        scale = Scale("config.optim.batch_size", step.rows, row_counts(multiple, step.rows), make)
    steps = float(sum(map(num_steps, runs)))
    return Planned(
        f"step of {', '.join(names)}",
        about,
        scale,
        1,
        lambda value: {"unlearn": steps},
        way_out="" if is_auto else f"raise {', '.join(keys)}",
    )


def _in_parts(step: sizes.Training, number: int, runs: list[OptimConfig], mesh: Mesh) -> sizes.Training:
    rows = round_up(runs[0].batch_size, mesh.size * number)
    return dataclasses.replace(step, rows=rows, micro_batches=number)


def _before(
    name: str, run: OptimConfig, config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh
) -> Iterator[Planned]:
    if isinstance(run.samples, ChoiceSamples):
        yield _questions(name, run, run.samples, shapes, model, mesh)
    needs = tuple(need for need in objective_of(run).needs if isinstance(need, StartingNeed))
    if needs:
        rows = round_up(run.batch_size, mesh.size)
        step = sizes.relearning(rows, config.model.remat, shapes, mesh.size)
        units = float(NEGATIVES * len({kind for need in needs for kind in need.sets}))
        yield Planned(
            f"starting values of {name}",
            lambda rows: f"starting values of {name}: batch {rows} units",
            Scale(
                f"config.runs.{name}.batch_size",
                rows,
                [rows],
                lambda rows: forward.measuring(model, mesh, dataclasses.replace(step, rows=rows), needs),
            ),
            1,
            partial(batches, {"unlearn": units}),
        )


def _questions(
    name: str, run: OptimConfig, samples: ChoiceSamples, shapes: ModelShape, model: Abstract, mesh: Mesh
) -> Planned:
    asked = samples.questions or samples.vocabulary or OBJECTS
    width = round_up(min(asked, asking.MOST), asking.MULTIPLE)
    rows = round_up(max(1, run.batch_size // ROWS_PER_IMAGE), mesh.size)
    shared = round_up(shapes.num_image_tokens + sizes.PROMPT_TOKENS, asking.MULTIPLE)
    groups = float(IMAGES * math.ceil(asked / asking.MOST))
    return Planned(
        f"questions of {name}",
        lambda rows: (
            f"questions of {name} to the starting weights: {rows} images at a time, {rows // mesh.size} a "
            f"device, {width} questions each"
        ),
        Scale(
            f"config.runs.{name}.batch_size",
            rows,
            [rows],
            lambda rows: forward.odds(model, mesh, forward.Questions(rows, shared, width, TAIL)),
        ),
        1,
        partial(batches, {"unlearn": groups}),
    )
