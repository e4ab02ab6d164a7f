"""Loss and CHAIR around the two compared solutions (Fig. 2, measured)."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sare_jax import files
from sare_jax.data.batches import tokenize
from sare_jax.evaluation.metrics import chair
from sare_jax.pipeline import Task
from sare_jax.progress import track
from sare_jax.records.curated import read_curated
from sare_jax.stages import evaluate
from sare_jax.stages.context import Context


def tasks(context: Context) -> Iterator[Task]:
    """Makes `landscape.json`, on validation images."""
    settings = context.config.report
    if not settings.landscape_images:
        return
    runs = [run for run in (settings.baseline, settings.ours) if run in context.config.runs]
    yield Task(
        name="report/landscape",
        inputs=context.model_inputs()
        | {run: context.digest(context.checkpoints(run), "unlearn") for run in runs}
        | {
            "curated": context.digest(context.curated, "curate"),
            "scan": [
                settings.landscape_images,
                settings.landscape_radius,
                settings.landscape_points,
            ],
            "prompt": context.config.evaluate.prompt,
            "max_new_tokens": context.config.evaluate.max_new_tokens,
            "decoding": dataclasses.asdict(context.config.decoding),
        },
        outputs=(context.workdir / "landscape.json",),
        scratch=(_scratch(context),),
        run=lambda: _scan_all(context, runs),
    )


def _scan_all(context: Context, runs: list[str]) -> None:
    from sare_jax.training import landscape

    settings = context.config.report
    curated = read_curated(context.curated)
    images = context.splits.val[: settings.landscape_images]
    distances = np.linspace(-settings.landscape_radius, settings.landscape_radius, settings.landscape_points)
    found = {}
    points = [(run, direction) for run in runs for direction in ("eps", "random")]
    for run, direction in track(points, "landscape", total=len(points), unit="scan"):
        units = tokenize(curated, context.prompter, context.config.runs[run].instruction).neg
        _, params = evaluate.tuned(context, run)
        solution = params()
        along = landscape.directions(
            context.loaded, solution, units, context.features, mesh=context.mesh, seed=0
        )[direction]
        scan = {"alpha": [], "loss": [], "chair_s": [], "chair_i": []}
        for distance in distances:
            point = landscape.moved(solution, along, float(distance))
            said = evaluate.describe(
                context,
                point,
                images,
                context.config.evaluate.prompt,
                _scratch(context) / f"{run}_{direction}_{distance:+.4f}.jsonl",
                f"{run} {direction} {distance:+.2f}",
            )
            measured = chair.score(said, context.truth)
            scan["alpha"].append(float(distance))
            scan["loss"].append(
                landscape.loss_at(context.loaded, point, units, context.features, mesh=context.mesh)
            )
            scan["chair_s"].append(measured["chair_s"])
            scan["chair_i"].append(measured["chair_i"])
        found.setdefault(run, {})[direction] = scan
    rho = context.config.runs[settings.ours].rho if settings.ours in context.config.runs else None
    files.write_json(
        context.workdir / "landscape.json",
        {
            "runs": found,
            "rho": rho,
            "n_images": len(images),
            "split": "val",
            "scan": dataclasses.asdict(settings),
        },
    )
    files.remove(_scratch(context))


def _scratch(context: Context) -> Path:
    return context.workdir / ".landscape.partial"
