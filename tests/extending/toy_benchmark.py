"""A benchmark from outside: yes/no questions in lines of JSON, their pictures in a folder beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sare_jax.evaluation.benchmarks.benchmark import Benchmark, asked_of, pair
from sare_jax.evaluation.columns import Measure, ungrouped
from sare_jax.files import read_jsonl
from sare_jax.records.texts import Dropped

FILE = "questions.jsonl"
ACCURACY = Measure("pictures_accuracy", "Pictures", ("benchmarks", "pictures", "accuracy"))


def _read(path: Path) -> list[dict]:
    return [record | {"groups": {}} for record in read_jsonl(path / FILE)]


def _score(
    questions: Sequence[dict],
    answers: Sequence[dict],
    *,
    dropped: Dropped | None = None,
    draws: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    answered = pair(questions, answers, lambda question: question["label"] in ("yes", "no"), dropped)
    right = [(text or "").lower().startswith(question["label"]) for question, text in answered.pairs]
    numbers = {"accuracy": 100 * sum(right) / len(right), "intervals": {}, "rule": "the answer's first word"}
    return {"metric": "pictures", **answered.about, **numbers}


BENCHMARK = Benchmark(
    name="pictures",
    title="Pictures",
    about="yes/no questions about pictures",
    prompts={"official": "{} Answer yes or no.", "lineage": "{}"},
    read=_read,
    images=lambda path: path / "images",
    score=_score,
    shown=("accuracy",),
    counts=ungrouped((), {}),
    columns=(ACCURACY, asked_of("pictures", "Pictures")),
    max_new_tokens=4,
)
