"""Loss and CHAIR along lines through the weights of the two compared runs (Fig. 2, measured)."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sare_jax import files
from sare_jax.attacks import AS_CONFIGURED
from sare_jax.data.batches import TokenSet, tokenize
from sare_jax.evaluation.metrics import chair
from sare_jax.pipeline import Task
from sare_jax.progress import track
from sare_jax.records.curated import read_curated
from sare_jax.records.splits import Image
from sare_jax.stages import measuring
from sare_jax.stages.context import Context
from sare_jax.training.state import Params


class _Solution(NamedTuple):
    """A run's final weights, D_neg as its token rows, and unit directions by name."""

    params: Params
    units: TokenSet
    directions: dict[str, Params]


def tasks(context: Context) -> Iterator[Task]:
    """Makes `landscape.json` from validation images."""
    settings = context.config.report
    if not settings.landscape_images:
        return
    runs = [run for run in (settings.baseline, settings.ours) if run in context.config.runs]
    yield Task(
        name="report/landscape",
        inputs=context.model_inputs()
        | {run: measuring.tuned(context, run)[0] for run in runs}
        | {
            "curated": context.digest(context.curated, "curate"),
            "images": context.images_hash(context.splits.val[: settings.landscape_images]),
            "scan": [
                settings.landscape_images,
                settings.landscape_radius,
                settings.landscape_points,
            ],
        }
        | measuring.describing(context),
        outputs=(context.workdir / "landscape.json",),
        scratch=(_scratch(context),),
        run=lambda: _scan_all(context, runs),
    )


def _scan_all(context: Context, runs: list[str]) -> None:
    settings = context.config.report
    images = context.splits.val[: settings.landscape_images]
    scans: dict[str, dict[str, dict[str, list[float]]]] = {run: {} for run in runs}
    lines = [(run, direction) for run in runs for direction in ("eps", "random")]
    # ε* takes a pass over all of D_neg, so the lines of a run share what comes of it.
    solution_of = functools.lru_cache(maxsize=1)(functools.partial(_solution, context))
    for run, direction in track(lines, "landscape", total=len(lines), unit="scan"):
        scans[run][direction] = _scan(context, run, direction, images, solution_of(run))
    rho = context.config.runs[settings.ours].rho if settings.ours in context.config.runs else None
    files.write_json(
        context.workdir / "landscape.json",
        {
            "runs": scans,
            "rho": rho,
            "n_images": len(images),
            "split": "val",
            "scan": dataclasses.asdict(settings),
        },
    )
    files.remove(_scratch(context))


def _solution(context: Context, run: str) -> _Solution:
    from sare_jax.plan.sizes import least_rows
    from sare_jax.training import landscape
    from sare_jax.training.remat import remat_policy

    instruction = context.config.runs[run].instruction
    units = tokenize(read_curated(context.curated), context.image_prompter, instruction).neg
    params = measuring.tuned(context, run)[1]()
    directions = landscape.directions(
        context.loaded,
        params,
        units,
        context.features,
        mesh=context.mesh,
        seed=0,
        batch_size=least_rows(context.config.runs[run]),  # what a training step has room for
        remat_policy=remat_policy(context.config.model.remat, context.mesh),
    )
    return _Solution(params, units, directions)


def _scan(
    context: Context, run: str, direction: str, images: Sequence[Image], solution: _Solution
) -> dict[str, list[float]]:
    """Loss on D_neg and CHAIR at each distance `alpha` from a run's final weights along one direction."""
    from sare_jax.training import landscape

    settings = context.config.report
    scan: dict[str, list[float]] = {"alpha": [], "loss": [], "chair_s": [], "chair_i": []}
    ends = settings.landscape_radius
    for distance in map(float, np.linspace(-ends, ends, settings.landscape_points)):
        point = landscape.moved(solution.params, solution.directions[direction], distance)
        answers = measuring.describe(
            context,
            point,
            images,
            AS_CONFIGURED,
            _scratch(context) / f"{run}_{direction}_{distance:+.4f}.jsonl",
            f"{run} {direction} {distance:+.2f}",
        )
        result = chair.score(answers, context.truth)
        scan["alpha"].append(distance)
        scan["loss"].append(
            landscape.loss_at(context.loaded, point, solution.units, context.features, mesh=context.mesh)
        )
        scan["chair_s"].append(result["chair_s"])
        scan["chair_i"].append(result["chair_i"])
    return scan


def _scratch(context: Context) -> Path:
    return context.workdir / ".landscape.partial"
