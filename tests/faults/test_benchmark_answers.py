"""Answers to benchmarks that were changed by hand: what cannot be scored is one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sare_jax import files
from sare_jax.evaluation.benchmarks import BENCHMARKS
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.benchmarks.command import main
from sare_jax.extensions import resolve
from tests.evaluation.benchmarks.small_benchmarks import (
    pairs,
    write_gqa,
    write_mme,
    write_qbench,
    write_scienceqa,
)
from tests.evaluation.benchmarks.small_judges import (
    write_amber,
    write_hallusion,
    write_mmhal,
    write_objhal,
    write_repope,
)
from tests.faults.mutate import hostile
from tests.faults.test_readers import COUNT, SEED
from tests.faults.test_saved_results import refused

WRITE: dict[str, Callable[[Path], object]] = {
    "mme": lambda folder: write_mme(folder, {"count": pairs("a", "b")}),
    "gqa": lambda folder: write_gqa(folder, {"1": ("n1", "Is it?", "yes", "verify")}),
    "scienceqa": write_scienceqa,
    "qbench": write_qbench,
    "amber": write_amber,
    "hallusion": write_hallusion,
    "repope": write_repope,
    "mmhal": write_mmhal,
    "objhal": write_objhal,
}
JUDGED = {"mmhal": {"rating": 4}, "objhal": {"extract_objs": ["dog", "two puppies"]}}


SHIPPED = {name: resolve(name, BENCHMARKS, "benchmark") for name in BENCHMARKS}
COMMANDS = [(name, "score") for name in SHIPPED] + [
    (n, "layout") for n, found in SHIPPED.items() if found.layout
]


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_answers_that_carry_their_questions(tmp_path, name, command):
    benchmark = SHIPPED[name]
    WRITE[name](tmp_path)
    asked = requests(benchmark, tmp_path)
    answers = [{**question, "text": "Yes, a dog.", **JUDGED.get(name, {})} for question in asked]
    path = tmp_path / "answers.jsonl"
    files.write_jsonl(path, answers)
    options = ["--out", str(tmp_path / "out")] if command == "layout" else ["--json", "--draws", "2"]

    def run() -> None:
        main(benchmark, [command, "--answers", str(path), *options])

    run()
    for content in hostile(path, answers, COUNT // 5, seed=SEED + len(name), lines=True):
        refused(run, content)
