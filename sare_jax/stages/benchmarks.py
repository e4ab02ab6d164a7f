"""Benchmarks with images and questions of their own, asked of any weights: part of the stages 4 and 5."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.evaluation.benchmarks.benchmark import Benchmark, benchmarks_of, requests
from sare_jax.evaluation.benchmarks.judged import judged_answers
from sare_jax.evaluation.judging.informativeness import JudgeSettings, judge_named
from sare_jax.evaluation.judging.judge import Judge
from sare_jax.pipeline import Task
from sare_jax.settings import EvaluateConfig
from sare_jax.settings.building import build
from sare_jax.stages.context import Context
from sare_jax.training.state import Params


def answers(context: Context, run: str, setting: str) -> dict[str, Path]:
    """Benchmark name → JSONL file of the answers, for each configured benchmark."""
    folder = context.workdir / "benchmarks" / run / setting
    return {benchmark.name: folder / f"{benchmark.name}.jsonl" for benchmark, _ in configured(context)}


def configured(context: Context) -> list[tuple[Benchmark, Path]]:
    """The benchmarks that have a path, each with its file or folder."""
    named = benchmarks_of(context.config.evaluate.benchmarks)
    return [(benchmark, context.in_root(str(path))) for benchmark, path in named]


def judge_of(settings: EvaluateConfig) -> Judge | None:
    """The judge of informativeness, where one is named and a configured benchmark needs one; else None.

    Raises:
      UserError: the judge's model or key is lacking.
    """
    if not any(benchmark.judging for benchmark, _ in benchmarks_of(settings.benchmarks)):
        return None
    return judge_named(_judge_settings(settings))


def judge_identity(settings: EvaluateConfig) -> dict[str, Any]:
    """Task inputs that the scores of benchmarks depend on besides their answers."""
    if judge_of(settings) is None:
        return {}
    named = _judge_settings(settings)
    return {"benchmark_judge": [named.judge, named.model]}


def _judge_settings(settings: EvaluateConfig) -> JudgeSettings:
    name = "informativeness"
    return build(JudgeSettings, settings.options.get(name, {}), f"config.evaluate.options.{name}")


def answered(context: Context, run: str, setting: str) -> list[tuple[Benchmark, list[dict]]]:
    """Each configured benchmark with its answered requests, and a judge's verdicts where it needs them."""
    settings = context.config.evaluate
    judge = judge_of(settings)
    found = []
    for benchmark, _ in configured(context):
        records = files.read_jsonl(answers(context, run, setting)[benchmark.name])
        if benchmark.judging and judge:
            records = judged_answers(benchmark, records, records, judge)
        found.append((benchmark, records))
    return found


def asked(
    context: Context, run: str, setting: str, weights: dict, params: Callable[[], Params], prompt: str | None
) -> Iterator[Task]:
    """Tasks that ask the questions of each configured benchmark under one setting.

    Args:
      context: settings, paths and the loaded model.
      run: a run's name, or `base`.
      setting: `origin`, or an attack's name.
      weights: task inputs that identify the weights.
      params: loads the trainable parameters; called only when a task runs.
      prompt: put before each question in a prompt attack; None otherwise.
    """
    settings = context.config.evaluate
    for benchmark, path in configured(context):
        first = 0 if benchmark.whole else settings.benchmark_first
        prefix = f"{prompt} " if prompt else ""
        questions = _requests(benchmark, path, settings.benchmark_prompt, first, prefix)
        out = answers(context, run, setting)[benchmark.name]
        name = f"{run}/{setting} {benchmark.title}"
        yield Task(
            name=f"benchmarks/{run}/{setting}/{benchmark.name}",
            inputs=context.model_inputs()
            | weights
            | {
                "requests": files.hash_value(questions),
                "images": context.contents.hash(
                    benchmark.images(path), sorted({question["image"] for question in questions})
                ),
                "max_new_tokens": benchmark.max_new_tokens,
                "decoding": dataclasses.asdict(context.briefly),
            },
            outputs=(out,),
            run=partial(_ask, context, params, benchmark, questions, out, benchmark.images(path), name),
        )


def _ask(
    context: Context,
    params: Callable[[], Params],
    benchmark: Benchmark,
    questions: list[dict],
    out: Path,
    images: Path,
    name: str,
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    context.ask(
        params(),
        questions,
        out,
        name=name,
        max_new_tokens=benchmark.max_new_tokens,
        size="evaluate.question_batch_size",
        images=images,
    )


@lru_cache(maxsize=16)
def _requests(benchmark: Benchmark, path: Path, prompt: str, first: int, prefix: str) -> list[dict]:
    return requests(benchmark, path, prompt=prompt, first=first, prefix=prefix)
