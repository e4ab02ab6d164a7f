"""Benchmarks with images and questions of their own, asked of any weights: part of the stages 4 and 5."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from sare_jax import files
from sare_jax.evaluation.benchmarks import gqa, mme, qbench, scienceqa
from sare_jax.evaluation.benchmarks.benchmark import Benchmark, requests
from sare_jax.pipeline import Task
from sare_jax.settings import EvaluateConfig
from sare_jax.stages.context import Context
from sare_jax.training.state import Params

ANSWER_TOKENS = 32
BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (mme.BENCHMARK, gqa.BENCHMARK, scienceqa.BENCHMARK, qbench.BENCHMARK)
}


def answers(context: Context, run: str, setting: str) -> dict[str, Path]:
    """Where the answers to each configured benchmark lie, by its name."""
    folder = context.workdir / "benchmarks" / run / setting
    return {name: folder / f"{name}.jsonl" for name in BENCHMARKS if _path(context.config.evaluate, name)}


def asked(
    context: Context, run: str, setting: str, weights: dict, params: Callable[[], Params], prompt: str | None
) -> Iterator[Task]:
    """Answers to each configured benchmark under one setting.

    Args:
      context: of the invocation.
      run: name of the model's row.
      setting: name of the condition.
      weights: what the weights depend on.
      params: gives the trainable weights.
      prompt: stands before each question, in a prompt attack.
    """
    settings = context.config.evaluate
    for name, out in answers(context, run, setting).items():
        questions = _requests(settings, name, f"{prompt} " if prompt else "")
        yield Task(
            name=f"benchmarks/{run}/{setting}/{name}",
            inputs=context.model_inputs()
            | weights
            | {"requests": files.hash_value(questions), "max_new_tokens": ANSWER_TOKENS},
            outputs=(out,),
            run=lambda name=name, out=out, questions=questions: _ask(
                context, params(), name, questions, out, f"{run}/{setting} {BENCHMARKS[name].title}"
            ),
        )


def _ask(context: Context, params: Params, name: str, questions: list[dict], out: Path, shown: str) -> None:
    settings = context.config.evaluate
    out.parent.mkdir(parents=True, exist_ok=True)
    context.ask(
        params,
        questions,
        out,
        name=shown,
        max_new_tokens=ANSWER_TOKENS,
        batch_size=settings.pope_batch_size,
        images=BENCHMARKS[name].images(Path(_path(settings, name))),
    )


@lru_cache(maxsize=16)
def _requests(settings: EvaluateConfig, name: str, prefix: str) -> list[dict]:
    benchmark = BENCHMARKS[name]
    return requests(
        benchmark,
        Path(_path(settings, name)),
        prompt=settings.benchmark_prompt,
        first=0 if benchmark.whole else settings.benchmark_first,
        prefix=prefix,
    )


def _path(settings: EvaluateConfig, name: str) -> str:
    return {
        "mme": settings.mme,
        "gqa": settings.gqa,
        "scienceqa": settings.scienceqa,
        "qbench": settings.qbench,
    }[name]
