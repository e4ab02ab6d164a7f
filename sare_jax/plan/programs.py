"""The programs of the chosen stages, each made for any batch size, and how often they run."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

from jax.sharding import Mesh

from sare_jax.attacks import PlannedStep, Planning, attack_of
from sare_jax.models.interface import ModelShape
from sare_jax.plan import answers, compiled, forward, sizes, steps
from sare_jax.plan.compiled import Abstract, Program
from sare_jax.plan.planned import (
    IMAGES,
    NEGATIVES,
    TEST_IMAGES,
    Planned,
    Scale,
    attacked_runs,
    batches,
    is_matched,
    row_counts,
)
from sare_jax.rounding import round_up
from sare_jax.settings.auto import AUTO
from sare_jax.settings.road import Config
from sare_jax.training.remat import remat_policy

ENCODED = 16  # images that `inference.features` encodes at a time
# Openings of a caption, tokens of the longest phrase before a name, and objects that could be named: the
# openings' logits are the largest array when log-odds are read.
OPENINGS, PHRASE, NAMES = 16, 4, 100

Step = Callable[[Abstract, Mesh, sizes.Training], Program]


def programs(config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh) -> Iterator[Planned]:
    """The programs of `config.stages`; those that several stages share once.

    How often each runs rests on assumed numbers of images and negatives (`IMAGES`, …) where the config does
    not say. The step's objective is taken to be `ascent`. PyTorch's models (CLIP, GPT-2) are not here, nor
    what a judge's endpoint does.

    Args:
      config: settings that a run would have; sizes may be `auto`.
      shapes: sizes of the language model and of the image features.
      model: the model as shapes.
      mesh: the devices.
    """
    asked = answers.Asked(config, shapes, model, mesh)
    if any(stage in config.stages for stage in ("caption", "unlearn", "evaluate", "attack")):
        yield _encoding(config, model, mesh)
    if "caption" in config.stages and not config.caption.file:
        yield asked.captions()
    if "unlearn" in config.stages:
        yield from steps.training(config, shapes, model, mesh)
    if any(stage in config.stages for stage in ("evaluate", "attack", "report")):
        yield from asked.measured()
    if config.evaluate.probe_images and any(stage in config.stages for stage in ("evaluate", "attack")):
        yield _probing(config, shapes, model, mesh)
    if "attack" in config.stages or is_matched(config):
        yield from _attacks(config, shapes, model, mesh)
    if "report" in config.stages and config.report.landscape_images:
        yield from _landscape(config, shapes, model, mesh)


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


def _encoding(config: Config, model: Abstract, mesh: Mesh) -> Planned:
    """Each image once a stage: features do not stay in memory for all of them."""
    rows = round_up(ENCODED, mesh.size)
    tested = config.evaluate.max_images or TEST_IMAGES
    images = {
        "caption": float(IMAGES if not config.caption.file else 0),
        "unlearn": float(3 * NEGATIVES * len(config.runs)),
        "evaluate": float(tested * (1 + len(config.runs))),
        "attack": float(tested * sum(attacked_runs(config, name) for name in config.attacks)),
    }
    wanted = {stage: number for stage, number in images.items() if stage in config.stages and number}
    return Planned(
        "image features",
        lambda rows: f"image features: {rows} images at a time, {rows // mesh.size} a device",
        Scale("", rows, [rows], partial(forward.encoding, model, mesh)),
        1,
        lambda rows: batches(wanted, rows),
    )


def _probing(config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh) -> Planned:
    settings = config.evaluate
    usual = sizes.usual(config).evaluate
    length = round_up(shapes.num_image_tokens + sizes.PROMPT_TOKENS + settings.max_new_tokens, 16)
    rows = round_up(min(sizes.number(usual.batch_size), settings.probe_images), mesh.size)
    attacked = sum(attacked_runs(config, name) for name in config.attacks)
    weights = {"evaluate": 1 + len(config.runs), "attack": attacked}
    images = {
        stage: float(settings.probe_images * number)
        for stage, number in weights.items()
        if stage in config.stages
    }
    return Planned(
        "openings",
        lambda rows: (
            f"log-odds at openings: batch {rows}, {rows // mesh.size} a device, {length} tokens, "
            f"{OPENINGS} openings each"
        ),
        Scale(
            "config.evaluate.batch_size",
            rows,
            row_counts(mesh.size, rows),
            lambda rows: forward.probing(
                model, mesh, forward.Openings(rows, length, OPENINGS, PHRASE, NAMES)
            ),
            is_auto=settings.batch_size == AUTO,
        ),
        1,
        lambda rows: batches(images, rows),
    )


def _attacks(config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh) -> Iterator[Planned]:
    """Steps on units by their number of rows, then those with a program of their own."""
    alike: dict[int, list[str]] = {}
    times: dict[int, dict[str, float]] = {}

    def add(rows: int, name: str, stage: str, number: float) -> None:
        alike.setdefault(rows, []).append(name)
        there = times.setdefault(rows, {})
        there[stage] = there.get(stage, 0.0) + number

    for name, attack in config.attacks.items():
        kind = attack_of(attack.kind, f"config.attacks.{name}")
        rows = getattr(attack.settings, "batch_size", 0)
        if not (kind.weights and rows) or kind.planned:
            continue
        a_run = -(-(getattr(attack.settings, "num_samples", 0) or NEGATIVES) // rows)
        if "attack" in config.stages:
            add(rows, name, "attack", attacked_runs(config, name) * a_run)
        if is_matched(config) and name == config.report.matched_attack:
            add(rows, f"{name} of matched checkpoints", "report", answers.MATCHED * a_run)
    if "attack" in config.stages and (control := config.masking).steps:
        add(control.batch_size, "masking", "attack", (1 + len(config.runs)) * control.steps)
    for rows, names in alike.items():
        yield _finetuning(config, shapes, model, mesh, rows, names, times[rows])
    if "attack" in config.stages:
        for name in config.attacks:
            yield from _own(config, name, shapes, model, mesh)


def _finetuning(
    config: Config,
    shapes: ModelShape,
    model: Abstract,
    mesh: Mesh,
    rows: int,
    names: list[str],
    times: dict[str, float],
) -> Planned:
    step = sizes.relearning(rows, config.model.remat, shapes, mesh.size)
    return Planned(
        "attacks' step",
        lambda rows: f"step of the attacks {', '.join(names)}: batch {rows}",
        Scale(
            "config.attack.batch_size",
            step.rows,
            [step.rows],
            partial(_of_step, compiled.relearning, model, mesh, step),
        ),
        1,
        lambda rows: times,
    )


def _own(config: Config, name: str, shapes: ModelShape, model: Abstract, mesh: Mesh) -> Iterator[Planned]:
    """The step of an attack that has a program of its own."""
    attack = config.attacks[name]
    numbered = sizes.usual(config).attacks[name]

    def planned(rows_at_once: int) -> tuple[str, PlannedStep] | None:
        changed = {"rows_at_once": rows_at_once} if hasattr(numbered.settings, "rows_at_once") else {}
        settings = dataclasses.replace(numbered.settings, **changed)
        only = {name: dataclasses.replace(numbered, settings=settings)}
        return next(attack_steps(dataclasses.replace(config, attacks=only), shapes, model, mesh), None)

    start = getattr(numbered.settings, "rows_at_once", 1)
    if not (there := planned(start)):
        return
    rows = there[1].arguments[2]["tokens"].shape[0]
    a_run = -(-(getattr(attack.settings, "num_rows", 0) or NEGATIVES) // rows)
    times = {"attack": float(attacked_runs(config, name) * a_run)}

    def made(rows_at_once: int) -> tuple[str, PlannedStep]:
        found = planned(rows_at_once)
        assert found  # as there was one for the number of the settings
        return found

    yield Planned(
        f"attack {name}",
        lambda number: made(number)[0],
        Scale(
            f"config.attacks.{name}.rows_at_once",
            start,
            range(1, max(start, rows // mesh.size) + 1),
            lambda number: compiled.attacking(made(number)[1], mesh),
            "number of rows at once",
            sizes.rows_are_auto(attack),
        ),
        1,
        lambda number: times,
    )


def _landscape(config: Config, shapes: ModelShape, model: Abstract, mesh: Mesh) -> Iterator[Planned]:
    """The gradient over all of D_neg once a run, and its loss at each point of both lines."""
    from sare_jax.training.landscape import BATCH

    report = config.report
    runs = [run for run in (report.baseline, report.ours) if run in config.runs]
    if not runs:
        return
    at_once = max(sizes.least_rows(config.runs[run]) for run in runs)
    points = len(runs) * 2 * report.landscape_points
    for name, rows, make, passes in (
        ("gradient", at_once, forward.scanning, len(runs)),
        ("loss", BATCH, forward.reading, points),
    ):
        step = sizes.relearning(rows, config.model.remat, shapes, mesh.size)
        negatives = {"report": float(NEGATIVES * passes)}
        yield Planned(
            f"landscape's {name}",
            partial(_titled, f"landscape's {name} on D_neg"),
            Scale("", step.rows, [step.rows], partial(_of_step, make, model, mesh, step)),
            1,
            partial(batches, negatives),
            way_out="config.report.landscape_images=0 leaves the landscape out",
        )


def _of_step(make: Step, model: Abstract, mesh: Mesh, step: sizes.Training, rows: int) -> Program:
    return make(model, mesh, dataclasses.replace(step, rows=rows))


def _titled(what: str, rows: int) -> str:
    return f"{what}: {rows} units at a time"
