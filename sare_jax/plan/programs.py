"""The programs of the chosen stages, each made for any batch size, and how often they run."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from jax.sharding import Mesh

from sare_jax.attacks import PlannedStep, Planning, attack_of
from sare_jax.evaluation.benchmarks.benchmark import benchmarks_of
from sare_jax.evaluation.metrics.metric import chosen
from sare_jax.models.interface import ModelShape
from sare_jax.plan import compiled, sizes
from sare_jax.plan.compiled import Abstract, Program
from sare_jax.rounding import round_up
from sare_jax.settings.optim import OptimConfig
from sare_jax.settings.road import Config
from sare_jax.training.remat import remat_policy

# What is counted where data alone would tell: EFUF's numbers of images, and negatives of that order.
IMAGES, NEGATIVES, TEST_IMAGES = 80_000, 10_000, 1_600
# Tokens that a batch of captions, and of long descriptions, takes until its last row ends.
CAPTION_TURNS, DESCRIPTION_TURNS = 100, 200


@dataclass(frozen=True)
class Planned:
    """A program of a run.

    Attributes:
      title: what one run of it does.
      rows: rows of its batch, over all devices.
      multiple: of what the rows are a multiple.
      key: the setting to lower where it does not fit.
      turns: steps of its decoding loop.
      runs: stage → how often that stage runs it.
      make: lowers it for so many rows.
    """

    title: str
    rows: int
    multiple: int
    key: str
    turns: int
    runs: dict[str, float]
    make: Callable[[int], Program]


def programs(config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh) -> Iterator[Planned]:
    """The programs of `config.stages`; those that several stages share once.

    How often each runs rests on assumed numbers of images and negatives (`IMAGES`, …) where the config does
    not say. The step's objective is taken to be `ascent`. The curation's CLIP is PyTorch's and not here.

    Args:
      config: settings that a run would have.
      shapes: sizes of the language model and of the image features.
      model: the model as shapes.
      mesh: the devices.
    """
    if "caption" in config.stages and not config.caption.file:
        batch = _answers(config, shapes, mesh, config.caption.batch_size, config.caption.max_new_tokens)
        requests = {"caption": float(IMAGES)}
        yield _asking("captions", batch, "caption.batch_size", requests, CAPTION_TURNS, model, mesh)
    if "unlearn" in config.stages:
        yield from _training(config, shapes, model, mesh)
    if stages := [stage for stage in ("evaluate", "attack") if stage in config.stages]:
        yield from _measuring(config, shapes, model, mesh, stages)
    if "attack" in config.stages:
        yield from _attacks(config, shapes, model, mesh)


def attack_steps(
    config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh
) -> Iterator[tuple[str, PlannedStep]]:
    """Title and training step of each configured attack whose memory is not that of unlearning."""
    length, remat = sizes.length(shapes), config.model.remat
    known = Planning(model, mesh, remat_policy(remat, mesh), length, sizes.ANSWER_TOKENS)
    for name, attack in config.attacks.items():
        if make := attack_of(attack.kind, f"config.attacks.{name}").planned:
            planned = make(attack.settings, known)
            yield (
                f"attack {name}: {planned.title}, {planned.rows_at_once} a device at a time, {length} tokens "
                f"each, model.remat={remat}",
                planned,
            )


def _answers(config: Config, shapes: ModelShape, mesh: Mesh, rows: int, new: int) -> sizes.Captioning:
    whole = sizes.captioning(config, shapes, mesh.size)
    return dataclasses.replace(whole, rows=round_up(rows, mesh.size), new=new)


def _asking(
    what: str,
    batch: sizes.Captioning,
    key: str,
    requests: dict[str, float],
    turns: int,
    model: Abstract,
    mesh: Mesh,
) -> Planned:
    beams = f", {batch.decoding.num_beams} beams" if batch.decoding.num_beams > 1 else ""
    return Planned(
        f"{what}: batch {batch.rows}, {batch.rows_at_once} a device{beams}, up to {batch.new} new tokens",
        batch.rows,
        mesh.size,
        f"config.{key}",
        max(1, min(turns, batch.new) - 1),
        {stage: math.ceil(number / batch.rows) for stage, number in requests.items()},
        lambda rows: compiled.captioning(model, mesh, dataclasses.replace(batch, rows=rows)),
    )


def _training(config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh) -> Iterator[Planned]:
    alike: dict[sizes.Training, list[str]] = {}
    steps: dict[sizes.Training, float] = {}
    for name, run in config.runs.items():
        step = sizes.of_run(run, config.model.remat, shapes, mesh.size)
        alike.setdefault(step, []).append(name)
        steps[step] = steps.get(step, 0) + _num_steps(run)
    for step, names in alike.items():
        yield _step(step, names, steps[step], model, mesh)


def _step(step: sizes.Training, names: list[str], steps: float, model: Abstract, mesh: Mesh) -> Planned:
    parts = f" in {step.micro_batches} parts" if step.micro_batches > 1 else ""
    of_what = "captions with all their units" if step.packed else "of each set"

    def make(rows: int) -> Program:
        return compiled.training(model, mesh, dataclasses.replace(step, rows=rows))

    return Planned(
        f"training step of {', '.join(names)}: batch {step.rows} {of_what}{parts}, {step.rows_at_once} a "
        f"device at a time, {step.length} tokens each, model.remat={step.remat}",
        step.rows,
        mesh.size * step.micro_batches,
        "config.optim.batch_size (or raise config.optim.micro_batches)",
        1,
        {"unlearn": steps},
        make,
    )


def _num_steps(run: OptimConfig) -> float:
    return run.steps or math.ceil(run.epochs * NEGATIVES / run.batch_size)


def _measuring(
    config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh, stages: Sequence[str]
) -> Iterator[Planned]:
    settings = config.evaluate
    weights = {"evaluate": 1 + len(config.runs), "attack": (1 + len(config.runs)) * len(config.attacks)}

    def over(number: float) -> dict[str, float]:
        return {stage: number * weights[stage] for stage in stages}

    images = settings.max_images or TEST_IMAGES
    batch = _answers(config, shapes, mesh, settings.batch_size, settings.max_new_tokens)
    title = "descriptions (evaluation, attacks, matched comparisons)"
    yield _asking(title, batch, "evaluate.batch_size", over(images), DESCRIPTION_TURNS, model, mesh)

    asked: dict[int, list[tuple[str, float]]] = {}
    for metric, options in chosen(settings.metric_names(), settings.options):
        if metric.questions and (lists := metric.questions.lists(options)):
            number = len(lists) * 6.0 * getattr(options, "images", images)
            asked.setdefault(metric.questions.max_new_tokens, []).append((metric.title, number))
    for benchmark, _ in benchmarks_of(settings.benchmarks):
        number = settings.benchmark_first or TEST_IMAGES
        asked.setdefault(benchmark.max_new_tokens, []).append((benchmark.title, number))
    for new, who in asked.items():
        titles, numbers = zip(*who, strict=True)
        batch = _answers(config, shapes, mesh, settings.question_batch_size, new)
        title, key = f"questions of {', '.join(titles)}", "evaluate.question_batch_size"
        yield _asking(title, batch, key, over(sum(numbers)), new, model, mesh)


def _attacks(config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh) -> Iterator[Planned]:
    alike: dict[int, list[str]] = {}
    runs: dict[int, float] = {}
    models = 1 + len(config.runs)
    for name, attack in config.attacks.items():
        kind = attack_of(attack.kind, f"config.attacks.{name}")
        rows = getattr(attack.settings, "batch_size", 0)
        if kind.weights and rows and not kind.planned:
            alike.setdefault(rows, []).append(name)
            samples = getattr(attack.settings, "num_samples", 0) or NEGATIVES
            runs[rows] = runs.get(rows, 0) + models * math.ceil(samples / rows)
    for rows, names in alike.items():
        step = sizes.relearning(rows, config.model.remat, shapes, mesh.size)
        make = partial(_relearning, model, mesh, step)
        title = f"step of the attacks {', '.join(names)}: batch {step.rows}"
        key = "config.attack.batch_size"
        yield Planned(title, step.rows, mesh.size, key, 1, {"attack": runs[rows]}, make)
    for name, attack in config.attacks.items():
        only = dataclasses.replace(config, attacks={name: attack})
        for title, planned in attack_steps(only, shapes, model, mesh):
            rows = planned.arguments[2]["tokens"].shape[0]
            times = models * math.ceil((getattr(attack.settings, "num_rows", 0) or NEGATIVES) / rows)
            yield Planned(
                title,
                rows,
                rows,
                f"config.attacks.{name}.rows_at_once",
                1,
                {"attack": times},
                partial(_attacking, planned, mesh),
            )


def _relearning(model: Abstract, mesh: Mesh, step: sizes.Training, rows: int) -> Program:
    return compiled.relearning(model, mesh, dataclasses.replace(step, rows=rows))


def _attacking(planned: PlannedStep, mesh: Mesh, rows: int) -> Program:
    del rows  # an attack's batch is its recipe's
    return compiled.attacking(planned, mesh)
