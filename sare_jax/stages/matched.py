"""The two compared methods at equal erasure: checkpoints with the same CHAIR_S, recall or caption length.

A method that erases less has less to lose to an attack. So, besides the final weights, two checkpoints are
compared that are alike on validation images before the attack: the final one of one run and any of the other.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sare_jax import files, pipeline
from sare_jax.attacks import AS_CONFIGURED
from sare_jax.config import ORIGIN
from sare_jax.evaluation.compare import compare
from sare_jax.evaluation.metrics import chair
from sare_jax.evaluation.worst import worst_captions
from sare_jax.pipeline import Task
from sare_jax.progress import track
from sare_jax.records.splits import Image
from sare_jax.stages import attacking, measuring
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import load_params, saved_hash, steps_in


class Footing(NamedTuple):
    """A number of the CHAIR metric in which two checkpoints should be equal before the attack.

    Attributes:
      label: name of the comparison in the report.
      unit: unit of the number, for messages.
      alike: when a pair is chosen, differences up to this count as 0, so that later checkpoints win.
      bound: the largest difference at which the report calls the pair equal.
    """

    label: str
    unit: str
    alike: float
    bound: float


FOOTINGS = {
    "chair_s": Footing("equal CHAIR_S", "points of CHAIR_S", alike=0.0, bound=1.0),
    "recall": Footing("equal recall", "points of recall", alike=0.5, bound=1.0),
    "mean_words": Footing("equal length", "words", alike=0.5, bound=1.0),
}


class Pair(NamedTuple):
    """A step of the baseline and one of our run, and the difference of their numbers (`gap`, in its unit)."""

    baseline: int
    ours: int
    gap: float


def tasks(context: Context) -> Iterator[Task]:
    """Makes `matched.json`."""
    settings = context.config.report
    runs = (settings.baseline, settings.ours)
    if not settings.matched or any(run not in context.config.runs for run in runs):
        return
    yield Task(
        name="report/matched",
        inputs=context.model_inputs()
        | {run: _hashes(context, run) for run in runs}
        | {
            "curated": context.digest(context.curated, "curate"),
            "attack": attacking.identity_of(context, settings.matched_attack),
            "images": [context.images_hash(images) for images in (_validation(context), context.eval_images)],
            "footings": list(FOOTINGS),
            "annotations": context.annotations_hash,
        }
        | measuring.describing(context),
        outputs=(context.workdir / "matched.json",),
        scratch=(_scratch(context),),
        run=lambda: _match(context, *runs),
    )


def _hashes(context: Context, run: str) -> dict[int, str]:
    """The parameters of each checkpoint of a run, by step."""
    folder = pipeline.require(context.checkpoints(run), "unlearn")
    return {step: saved_hash(folder, step) for step in steps_in(folder)}


def closest(baseline: dict[int, float], ours: dict[int, float], alike: float = 0.0) -> Pair:
    """Chooses the pair of steps with the smallest difference, one of the two final; among equals the latest.

    Args:
      baseline: the baseline's step → number on validation images.
      ours: our run's step → number on validation images.
      alike: differences up to this count as equal, in the number's unit.
    """
    last_baseline, last_ours = max(baseline), max(ours)
    pairs = [(step, last_ours) for step in baseline] + [(last_baseline, step) for step in ours]

    def gap(pair: tuple[int, int]) -> float:
        return abs(baseline[pair[0]] - ours[pair[1]])

    best = min(pairs, key=lambda pair: (max(gap(pair), alike), -sum(pair)))
    return Pair(*best, gap(best))


def _match(context: Context, baseline: str, ours: str) -> None:
    settings = context.config.report
    images = _validation(context)
    checkpoints = [(run, step) for run in (baseline, ours) for step in steps_in(context.checkpoints(run))]
    scores: dict[str, dict[int, dict]] = {baseline: {}, ours: {}}
    count = len(checkpoints)
    for run, step in track(checkpoints, "captions of validation images", total=count, unit="checkpoint"):
        answers = _describe(context, run, step, "val", images)
        scores[run][step] = chair.score(answers, context.truth)
    measure = functools.cache(functools.partial(_measure, context))  # pairs may share a checkpoint
    pairs = []
    for key, footing in FOOTINGS.items():
        of_baseline, of_ours = (
            {step: row[key] for step, row in scores[run].items()} for run in (baseline, ours)
        )
        pair = closest(of_baseline, of_ours, alike=footing.alike)
        results = {
            setting: (
                measure(baseline, pair.baseline, setting),
                measure(ours, pair.ours, setting),
            )
            for setting in (ORIGIN, settings.matched_attack)
        }
        pairs.append(
            {
                "key": key,
                "steps": {baseline: pair.baseline, ours: pair.ours},
                "gap_on_validation": pair.gap,
                "differences": {setting: compare(*two)["metrics"] for setting, two in results.items()},
            }
        )
    about = {"attack": settings.matched_attack, "n_validation": len(images)}
    files.write_json(context.workdir / "matched.json", about | {"pairs": pairs})
    files.remove(_scratch(context))


def _measure(context: Context, run: str, step: int, setting: str) -> dict:
    """CHAIR of a checkpoint on the evaluation images, after the attack `setting` unless it is `origin`."""
    answers, _ = worst_captions(_describe(context, run, step, setting, context.eval_images), context.truth)
    return {"chair": chair.score(answers, context.truth, draws=context.config.evaluate.bootstrap)}


def _describe(context: Context, run: str, step: int, setting: str, images: Sequence[Image]) -> list[dict]:
    params = load_params(context.checkpoints(run), context.loaded, step=step)
    asking = AS_CONFIGURED
    if setting in context.config.attacks:
        params = attacking.attacked(context, run, setting, params).params
        asking = attacking.asking_of(context, setting)
    return measuring.describe(
        context,
        params,
        images,
        asking,
        _scratch(context) / f"{run}_{step}_{setting}.jsonl",
        f"{run} step {step} {setting}",
    )


def _validation(context: Context) -> Sequence[Image]:
    """As many validation images as there are evaluation images."""
    return context.splits.val[: len(context.eval_images)]


def _scratch(context: Context) -> Path:
    return context.workdir / ".matched.partial"
