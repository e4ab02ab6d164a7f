"""Stage 4: asks the models about held-out images and measures their answers."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.config import BASE_RUN, ORIGIN
from sare_jax.evaluation.metrics.metric import Questions
from sare_jax.pipeline import Task
from sare_jax.stages import attacking, benchmarks, marking, measuring, probing, sinks
from sare_jax.stages.context import Context


def tasks(context: Context) -> Iterator[Task]:
    """Asks questions, the describing prompt and the benchmarks of the base model and all runs."""
    for metric, options in measuring.metrics_in(context.config.evaluate):
        metric.check(options)  # so that e.g. a missing API key is reported before the models are asked
    benchmarks.judge_of(context.config.evaluate)
    yield from questions(context)
    for run in (BASE_RUN, *context.config.runs):
        weights = attacking.weights_of(context, run)
        yield from measuring.measured(context, run, ORIGIN, *weights)
        yield from probing.probed(context, run, ORIGIN, *weights)
    if "attack" not in context.config.stages:  # else there are more captions and metrics to come
        yield from marking.tasks(context)
        yield from sinks.tasks(context)


def questions(context: Context) -> Iterator[Task]:
    """Tasks that write each metric's lists of questions about the evaluation images."""
    settings = context.config.evaluate
    images = [image.id for image in context.eval_images]
    for metric, options in measuring.metrics_in(settings):
        if metric.questions is None:
            continue
        folder = measuring.question_folder(context, metric.name)
        yield Task(
            name=f"evaluate/{metric.name}_{settings.split}",
            inputs={
                "annotations": context.annotations_hash,
                "images": images,
                "settings": dataclasses.asdict(options),
            },
            outputs=(folder,),
            run=partial(_build, context, metric.questions, options, images, folder),
        )


def _build(context: Context, asked: Questions, options: Any, images: list[int], folder: Path) -> None:
    with files.replacing(folder) as draft:
        draft.mkdir()
        for name in asked.lists(options):
            listed = asked.build(context.truth, name, images, options)
            files.write_jsonl(draft / f"{name}.jsonl", listed)
