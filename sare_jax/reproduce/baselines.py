"""The other unlearning methods: what they leave of general ability (Fig. 3), and what a step takes (Fig. 5).

A config file that has a run of a baseline's name decides its settings. Where it has none, the run takes
open-unlearning's arguments (protocols 6), on the optimizer and length of the other runs.
"""

import dataclasses
import os
import tempfile
import time
from pathlib import Path

import jax

from sare_jax import files
from sare_jax.pipeline import Task
from sare_jax.records.curated import read_curated
from sare_jax.report.contrasts import measured
from sare_jax.report.measures import benchmarks_in, columns_in, in_place
from sare_jax.report.tables import Column, Group, Row, Table, number_cell, plain
from sare_jax.reproduce.experiment import Experiment, Made, Page, Raw, with_runs
from sare_jax.reproduce.main_results import methods_of
from sare_jax.settings.optim import OptimConfig
from sare_jax.training.remat import remat_policy
from sare_jax.training.unlearn import unlearn

BASELINES: dict[str, Raw] = {
    "ga": {"label": "GA", "objective": "ascent", "neg_weight": 1.0, "pos_weight": 0.0, "sent_weight": 0.0},
    "graddiff": {"label": "GradDiff", "objective": "ascent", "neg_weight": 1.0, "sent_weight": 0.0},
    "dpo": {"label": "DPO", "objective": "dpo", "packing": "unpacked", "neg_weight": 1.0, "sent_weight": 0.0},
    "npo": {"label": "NPO", "objective": "npo", "neg_weight": 1.0, "sent_weight": 0.0},
    "simnpo": {"label": "SimNPO", "objective": "simnpo", "neg_weight": 0.125, "sent_weight": 0.0},
    "rmu": {"label": "RMU", "objective": "rmu", "neg_weight": 1.0, "sent_weight": 0.0},
}
WARM, TIMED = 2, 8  # steps


def _with_baselines(raw: Raw) -> Raw:
    runs = methods_of(raw)
    for name, settings in BASELINES.items():
        runs[name] = {**settings, "rho": 0.0, **raw.get("runs", {}).get(name, {})}
    return with_runs(raw, runs, attacks={}, benchmarks=True)


def _fig3(made: Made) -> Page:
    asked = in_place(measure for item in benchmarks_in(made.spec) for measure in item.columns)
    measures = (*columns_in(made.spec), *asked)
    values = {
        run.key: [measured(made.inputs, run.key, "origin", measure) for measure in measures]
        for run in made.spec.runs
    }
    some = [i for i in range(len(measures)) if any(row[i].number is not None for row in values.values())]
    rows = tuple(
        Row(
            run.key,
            run.label,
            tuple(
                number_cell(values[run.key][i].number, measures[i].digits, values[run.key][i].interval)
                for i in some
            ),
        )
        for run in made.spec.runs
    )
    columns = tuple(
        Column(measures[i].key, measures[i].label, measures[i].better, measures[i].help) for i in some
    )
    absent = sorted({item.title for item in benchmarks_in(made.spec)} - _asked(made))
    notes = (
        "The paper draws its values and prints one: MME 1506 for SARE on LLaVA-v1.5-7B.",
        "GA has no retention. DPO prefers the same caption with the hallucinated piece left out, which is "
        "this project's choice, as the paper does not say.",
        *(f"{title}: not asked; config.evaluate.benchmarks names its files." for title in absent),
    )
    caption = "General abilities before any attack (the paper's Fig. 3)"
    return Page((Table("fig3", caption, "", columns, (Group("", "", rows),), notes),))


def _asked(made: Made) -> set[str]:
    """Titles of the benchmarks that some row holds."""
    held = {name for result in made.inputs.metrics.values() for name in result.get("benchmarks", {})}
    return {item.title for item in benchmarks_in(made.spec) if item.name in held}


def _fig5(made: Made) -> Page:
    seconds = {name: _timed(made, name, settings) for name, settings in made.context.config.runs.items()}
    first = seconds[made.spec.baseline]
    rows = tuple(
        Row(
            name,
            made.spec.label(name),
            (
                number_cell(taken, 3),
                number_cell(taken / first, 2),
                plain(_passes(settings)),
                number_cell(settings.batch_size, 0),
            ),
        )
        for name, settings in made.context.config.runs.items()
        for taken in (seconds[name],)
    )
    columns = (
        Column("seconds", "Seconds a step", "lower", f"Mean of {TIMED} steps after compilation."),
        Column("ratio", f"Of {made.spec.label(made.spec.baseline)}'s", "lower", "Measured in the same run."),
        Column("passes", "Passes", None, "Over the negatives, and over the rest."),
        Column("rows", "Rows of each set", None, "Samples of each set in a step."),
    )
    device = jax.devices()[0].device_kind
    notes = (
        f"{device}, {jax.device_count()} device(s). A step is timed with its data and its log, by the "
        "difference of a longer and a shorter run in one process. Curation, and what is measured under the "
        "starting weights before training (NPO, DPO, grounded choice), are not in it.",
        "The paper draws hours on NVIDIA A800 cards and prints none.",
    )
    caption = "What a training step takes (the paper's Fig. 5)"
    steps = Table("fig5", caption, "", columns, (Group("", "", rows),), notes)
    return Page((steps, shares(made)))


def shares(made: Made) -> Table:
    """How the time from images to unlearned weights is divided, as the workdir's records have it."""
    ledger, spec = made.context.ledger, made.spec
    before = [("captions of the training images", "caption"), ("curation", "curate")]
    trained = [(spec.label(run), f"unlearn/{run}") for run in made.context.config.runs]
    known = [(label, task, ledger.seconds(task)) for label, task in (*before, *trained)]
    shared = sum(seconds or 0.0 for _, task, seconds in known if task in ("caption", "curate"))
    rows = []
    for label, task, seconds in known:
        if seconds is None:
            continue
        share = plain("")
        if task.startswith("unlearn/"):
            share = number_cell(100 * shared / (shared + seconds), 0)
        rows.append(Row(task, label, (number_cell(seconds, 1), share)))
    columns = (
        Column("seconds", "Seconds", "lower", "By the clock, loading and compilation included."),
        Column(
            "share",
            "Captions and curation, %",
            None,
            "Of the time from images to this method's weights.",
        ),
    )
    notes = (
        "As the tasks ran in this workdir: whatever else ran on the machine is in it, and of a task that was "
        "interrupted the last call alone. A method trained later finds programs compiled earlier.",
    )
    return Table(
        "fig5_shares", "Where a method's time goes", "", columns, (Group("", "", tuple(rows)),), notes
    )


def _timed(made: Made, name: str, settings: OptimConfig) -> float:
    """`step_seconds`, measured once for a run's settings on this kind of machine."""
    context = made.context
    out = context.workdir / "reproduce" / "steps" / f"{name}.json"

    def measure() -> None:
        files.write_json(out, {"seconds": step_seconds(made, settings)})

    measured_with = {
        "settings": dataclasses.asdict(settings),
        "device": [jax.devices()[0].device_kind, jax.device_count(), os.cpu_count()],
        "steps": [WARM, TIMED],
        "curated": context.digest(context.curated, "curate"),
    }
    inputs = context.model_inputs() | measured_with
    context.ledger.execute(Task(name=f"reproduce/steps/{name}", inputs=inputs, outputs=(out,), run=measure))
    return files.read_json(out)["seconds"]


def step_seconds(made: Made, settings: OptimConfig) -> float:
    """Seconds a training step of a run takes on this machine, once its programs are compiled."""
    _train(made, settings, WARM + TIMED)  # batches of other lengths are programs of their own
    begun = time.perf_counter()
    _train(made, settings, WARM)
    short = time.perf_counter() - begun
    _train(made, settings, WARM + TIMED)
    return (time.perf_counter() - begun - 2 * short) / TIMED


def _train(made: Made, settings: OptimConfig, steps: int) -> None:
    context = made.context
    with tempfile.TemporaryDirectory() as folder:
        unlearn(
            context.loaded,
            read_curated(context.curated),
            context.image_prompter,
            context.features,
            dataclasses.replace(settings, steps=steps, checkpoint_every=0),
            folder=Path(folder) / "checkpoints",
            log=Path(folder) / "log.jsonl",
            starting=context.starting_values,
            made_from=context.model_inputs(),
            name="timing",
            mesh=context.mesh,
            remat_policy=remat_policy(context.config.model.remat, context.mesh),
            sizer=context.sizer("optim.micro_batches", OptimConfig.micro_batches),
        )


def _passes(settings: OptimConfig) -> str:
    """What a step runs: negatives once more for each ascent step."""
    more = settings.sam.steps if settings.rho else 0
    return f"negatives {1 + more}, others 1"


FIG3 = Experiment("what each method leaves of general ability", _with_baselines, _fig3)
FIG5 = Experiment("what a training step of each method takes", _with_baselines, _fig5)
