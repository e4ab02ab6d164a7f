"""Asking a model and measuring its answers, shared by evaluate, attack, matched and landscape."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sare_jax import files, pipeline
from sare_jax.attacks import AS_CONFIGURED, Asking
from sare_jax.evaluation.benchmarks.benchmark import benchmarks_of
from sare_jax.evaluation.compare import compare, counts_of
from sare_jax.evaluation.evaluate import measure
from sare_jax.evaluation.metrics.metric import Chosen, chosen
from sare_jax.evaluation.worst import worst_captions
from sare_jax.pipeline import Task
from sare_jax.records.splits import Image
from sare_jax.settings import DecodingConfig, EvaluateConfig
from sare_jax.stages import benchmarks
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import load_params, saved_hash, steps_in
from sare_jax.training.state import Params


def metrics_in(settings: EvaluateConfig) -> tuple[Chosen, ...]:
    """The metrics that the config names, with their settings."""
    return chosen(settings.metric_names(), settings.options)


def tuned(context: Context, run: str) -> tuple[dict, Callable[[], Params]]:
    """Task inputs that identify a run's final weights, and a function that loads them."""
    folder = context.checkpoints(run)
    step = steps_in(pipeline.require(folder, "unlearn"))[-1]
    weights = {"params": saved_hash(folder, step), "step": step}
    return weights, lambda: load_params(folder, context.loaded)


def question_folder(context: Context, metric: str) -> Path:
    """Folder of a metric's lists of questions about the evaluation images."""
    return context.workdir / metric / context.config.evaluate.split


def describing(context: Context) -> dict[str, Any]:
    """Task inputs that captions depend on besides weights and images."""
    settings = context.config.evaluate
    return {
        "prompt": settings.prompt,
        "max_new_tokens": settings.max_new_tokens,
        "decoding": dataclasses.asdict(context.config.decoding),
    }


def describe(
    context: Context, params: Params, images: Sequence[Image], asking: Asking, out: Path, name: str
) -> list[dict]:
    """Asks for `asking.draws` captions of each image; writes the answers to the JSONL file `out`."""
    settings = context.config.evaluate
    prompt = asking.prompt or settings.prompt
    requests = [
        {"id": image.id, "image_id": image.id, "image": image.file, "instruction": prompt}
        for image in images
        for _ in range(asking.draws)
    ]
    return context.ask(
        params,
        requests,
        out,
        name=name,
        max_new_tokens=settings.max_new_tokens,
        size="evaluate.batch_size",
        decoding=_decoding(context, asking),
    )


def measured(
    context: Context,
    run: str,
    setting: str,
    weights: dict,
    params: Callable[[], Params],
    asking: Asking = AS_CONFIGURED,
) -> Iterator[Task]:
    """Tasks that ask a model under one setting and measure its answers.

    Args:
      context: settings, paths and the loaded model.
      run: a run's name, or `base`.
      setting: `origin`, or an attack's name.
      weights: task inputs that identify the weights.
      params: loads the trainable parameters; called only when a task runs.
      asking: prompt, decoding and number of captions per image.
    """
    settings = context.config.evaluate
    answers = context.answers(run, setting)
    questions = {metric.name: options for metric, options in metrics_in(settings) if metric.questions}
    yield Task(
        name=f"answers/{run}/{setting}",
        inputs=context.model_inputs()
        | weights
        | describing(context)
        | {
            "images": context.images_hash(context.eval_images),
            "questions": {
                name: [
                    context.digest(question_folder(context, name), "evaluate"),
                    dataclasses.asdict(options),
                ]
                for name, options in questions.items()
            },
            "attack": asking.prompt,
        }
        | _asked_otherwise(asking),
        outputs=(answers,),
        scratch=(_draft(answers),),
        run=lambda: _ask_all(context, params(), asking, answers, f"{run}/{setting}"),
    )
    yield from benchmarks.asked(context, run, setting, weights, params, asking.prompt)
    yield Task(
        name=f"metrics/{run}/{setting}",
        inputs={
            "answers": files.digest(answers),
            "benchmarks": {
                name: files.digest(path) for name, path in benchmarks.answers(context, run, setting).items()
            },
            "annotations": context.annotations_hash,
            "metrics": {metric.name: metric.depends_on(options) for metric, options in metrics_in(settings)},
            "bootstrap": settings.bootstrap,
        }
        | benchmarks.judge_identity(settings),
        outputs=(context.metrics(run, setting),),
        run=lambda: _measure(context, run, setting, weights),
    )


def differences(context: Context, before: dict, after: dict) -> dict[str, dict[str, Any]]:
    """Paired differences between two results, by dotted name, for the configured metrics and benchmarks."""
    settings = context.config.evaluate
    metrics = [metric for metric, _ in metrics_in(settings)]
    asked = [benchmark for benchmark, _ in benchmarks_of(settings.benchmarks)]
    return compare(before, after, known=counts_of(metrics, asked))["metrics"]


def _asked_otherwise(asking: Asking) -> dict[str, Any]:
    """Task inputs of an attack's own decoding; none if it decodes as configured."""
    if asking.temperature is None:
        return {}
    return {"temperature": asking.temperature, "seed": asking.seed, "draws": asking.draws}


def _decoding(context: Context, asking: Asking) -> DecodingConfig:
    configured = context.config.decoding
    if asking.temperature is None:
        return configured
    return dataclasses.replace(configured, num_beams=1, temperature=asking.temperature, seed=asking.seed)


def _ask_all(context: Context, params: Params, asking: Asking, answers: Path, name: str) -> None:
    """Asks everything under one setting in a draft folder, which is renamed to `answers` when complete.

    An interrupted draft stays, and the next run continues it.
    """
    settings = context.config.evaluate
    draft = _draft(answers)
    draft.mkdir(parents=True, exist_ok=True)
    describe(context, params, context.eval_images, asking, draft / "captions.jsonl", name=f"{name} captions")
    for metric, options in metrics_in(settings):
        if metric.questions is None:
            continue
        for kind in metric.questions.lists(options):
            questions = files.read_jsonl(question_folder(context, metric.name) / f"{kind}.jsonl")
            context.ask(
                params,
                metric.questions.requests(questions, options, f"{asking.prompt} " if asking.prompt else ""),
                draft / f"{metric.name}_{kind}.jsonl",
                name=f"{name} {metric.title} {kind}",
                max_new_tokens=metric.questions.max_new_tokens,
                size="evaluate.question_batch_size",
            )
    files.settle(draft, answers)


def _measure(context: Context, run: str, setting: str, weights: dict) -> None:
    settings = context.config.evaluate
    answers = context.answers(run, setting)
    captions, drawn = worst_captions(files.read_jsonl(answers / "captions.jsonl"), context.truth)
    result = measure(
        captions,
        context.truth,
        metrics_in(settings),
        answers={
            metric.name: {
                kind: files.read_jsonl(answers / f"{metric.name}_{kind}.jsonl")
                for kind in metric.questions.lists(options)
            }
            for metric, options in metrics_in(settings)
            if metric.questions
        },
        benchmarks=benchmarks.answered(context, run, setting),
        settings={"max_new_tokens": settings.max_new_tokens},
        draws=settings.bootstrap,
    )
    if drawn["draws"] > 1:
        result["worst"] = drawn
    result["provenance"] = {
        "run": run,
        "setting": setting,
        "split": settings.split,
        "config": files.hash_value(files.read_json(context.workdir / "config.json")),
        **context.model_inputs(),
        **weights,
    }
    files.write_json(context.metrics(run, setting), result)


def _draft(answers: Path) -> Path:
    return answers.with_name(f".{answers.name}.partial")
