"""Stage 4 on a tiny random model: benchmarks and judge where the config names them, and read-only weights."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sare_jax import files, pipeline, stages
from sare_jax.config import parse, to_dict
from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks import gqa, mmhal
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.columns import Measure, ungrouped
from sare_jax.evaluation.compare import compare
from sare_jax.evaluation.metrics.metric import AtHand, Metric
from sare_jax.models.shared.partition import hash_params
from sare_jax.report import ReportSpec, spec_of
from sare_jax.report.read import read
from sare_jax.report.tables import Table, result_tables
from sare_jax.settings.road import Config
from sare_jax.stages import benchmarks, evaluate, measuring
from sare_jax.stages.context import Context
from tests import tiny_llava
from tests.evaluation.benchmarks.small_benchmarks import (
    pairs,
    write_gqa,
    write_mme,
    write_qbench,
    write_scienceqa,
)
from tests.evaluation.benchmarks.small_judges import write_mmhal
from tests.evaluation.judging.judge_server import JudgeServer, says
from tests.evaluation.small_worlds import make_lm, write_coco


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Model, annotated images, language model and the four benchmarks with their images."""
    root = tmp_path_factory.mktemp("world")
    (root / "model").mkdir()
    tiny_llava.write_llava(root / "model")
    make_lm(root / "lm", positions=64, bos="<|endoftext|>")
    ids = list(range(1, 7))
    write_coco(root / "annotations", {i: ["dog"] for i in ids}, {i: ["a dog"] for i in ids})
    write_mme(root / "mme", {"existence": pairs("a", "b"), "OCR": pairs("c")}, apart="OCR")
    write_gqa(root / "gqa", {"1": ("n1", "Is it?", "yes", "verify"), "2": ("n1", "What?", "man", "query")})
    write_scienceqa(root / "scienceqa")
    write_qbench(root / "qbench")
    files_ = [root / "images" / f"COCO_val2014_{i:012d}.jpg" for i in ids]
    files_ += sorted((root / "mme").rglob("*.png"))
    files_ += [root / "gqa" / "images" / "n1.jpg"]
    files_ += [root / "scienceqa" / "images" / "test" / key / "image.png" for key in ("4", "20")]
    files_ += [root / "qbench" / "images" / name for name in ("00118.jpg", "9.png")]
    for path, picture in zip(files_, tiny_llava.pictures(len(files_)), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return root


def settings(root: Path, options: dict | None = None, **changes) -> Config:
    options = options or {}
    raw = {
        "name": "tiny",
        "stages": "prepare,evaluate",
        "data": {
            "images": str(root / "images"),
            "annotations": str(root / "annotations"),
            "reserve_validation": 1,
            "reserve_test": 3,
        },
        "model": {"folder": str(root / "model"), "dtype": "float32"},
        "evaluate": {
            "max_new_tokens": 4,
            "batch_size": 8,
            "question_batch_size": 8,
            "options": {"pope": {"images": 0}, "perplexity": {"lm": str(root / "lm")}, **options},
            "bootstrap": 20,
            **changes,
        },
    }
    return parse(raw)


def named(root: Path, *names: str) -> dict[str, str]:
    return {name: str(root / name) for name in names or ("mme", "gqa", "scienceqa", "qbench")}


@pytest.fixture(scope="module")
def measured(world, tmp_path_factory) -> Path:
    """A workdir in which the base model was evaluated on everything, with a judge that always says 40."""
    workdir = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch, JudgeServer(otherwise=says("Answer: 40")) as server:
        patch.setenv("XDG_CACHE_HOME", str(workdir / "cache"))
        judge = {"informativeness": {"judge": server.base_url, "model": "tiny"}}
        stages.run(settings(world, judge, benchmarks=named(world), benchmark_first=2), workdir)
    return workdir


def row(workdir: Path) -> dict:
    return json.loads((workdir / "metrics" / "base" / "origin.json").read_text())


def test_every_benchmark_has_its_row_and_its_answers(measured):
    found = row(measured)["benchmarks"]
    assert {name: found[name]["n"] for name in found} == {"mme": 6, "gqa": 2, "scienceqa": 2, "qbench": 2}
    assert found["qbench"]["subset"] == "the first 2 of all 3 questions"
    assert found["mme"]["prompt"]["template"] == "{} Please answer yes or no."
    assert all(result["missing"]["count"] == 0 for result in found.values())
    answers = files.read_jsonl(measured / "benchmarks" / "base" / "origin" / "mme.jsonl")
    assert [answer["id"] for answer in answers][:2] == ["existence/a/1", "existence/a/2"]
    assert {"text", "label", "instruction", "finish_reason"} <= set(answers[0])


def shown_of_base(measured, name) -> tuple[dict, Table]:
    """The cells of the base model's first row in a table of the report, and the table."""
    spec = ReportSpec()
    table = {table.key: table for table in result_tables(read(measured, spec), spec)}[name]
    return dict(zip([c.key for c in table.columns], table.groups[0].rows[0].cells, strict=True)), table


def test_the_report_has_a_table_of_the_benchmarks(measured):
    found = row(measured)["benchmarks"]
    shown, table = shown_of_base(measured, "benchmarks")
    assert [shown[f"{name}_n"].text for name in ("mme", "gqa", "scienceqa", "qbench")] == ["6", "2", "2", "2"]
    assert {column.key.partition("_")[0] for column in table.columns} == set(found)  # none but what was asked
    assert shown["mme_perception"].value == found["mme"]["perception"]
    assert shown["gqa_accuracy"].interval == tuple(found["gqa"]["intervals"]["accuracy"])
    assert any(note.startswith("qbench: the first 2 of all 3 questions, asked as") for note in table.notes)


def test_informativeness_is_measured_by_the_judge(measured):
    result = row(measured)["informativeness"]
    assert result["n"] == 3
    assert result["model"] == "tiny"
    assert 1 <= result["informativeness"] <= 40
    shown, _ = shown_of_base(measured, "results")
    assert shown["informativeness"].value == result["informativeness"]
    assert shown["informativeness"].interval == tuple(result["intervals"]["informativeness"])


def test_a_row_compares_with_itself(measured):
    found = compare(row(measured), row(measured), draws=10)
    assert {"benchmarks.mme.total", "benchmarks.gqa.accuracy", "informativeness.informativeness"} <= set(
        found["metrics"]
    )
    assert found["warnings"] == []


def test_adding_a_benchmark_asks_that_alone(world, tmp_path):
    stages.run(settings(world), tmp_path)
    assert row(tmp_path)["benchmarks"] == {}
    assert row(tmp_path)["informativeness"] == "not measured"
    done = stages.run(settings(world, benchmarks=named(world, "gqa")), tmp_path).executed
    assert done == ["benchmarks/base/origin/gqa", "metrics/base/origin"]
    done = stages.run(settings(world, benchmarks=named(world, "gqa"), benchmark_first=1), tmp_path).executed
    assert done == ["benchmarks/base/origin/gqa", "metrics/base/origin"]
    assert (
        stages.run(settings(world, benchmarks=named(world, "gqa"), benchmark_first=1), tmp_path).executed
        == []
    )


def test_images_exchanged_under_their_names_are_asked_about_again(world, tmp_path):
    shutil.copytree(world, tmp_path / "world")
    config = settings(tmp_path / "world", benchmarks=named(tmp_path / "world", "gqa"))
    stages.run(config, tmp_path / "run")
    other = (world / "scienceqa" / "images" / "test" / "4" / "image.png").read_bytes()
    (tmp_path / "world" / "gqa" / "images" / "n1.jpg").write_bytes(other)
    assert stages.run(config, tmp_path / "run").executed[:1] == ["benchmarks/base/origin/gqa"]
    evaluated = next((tmp_path / "run" / "answers").rglob("captions.jsonl"))
    image = files.read_jsonl(evaluated)[0]["image"]
    (tmp_path / "world" / "images" / image).write_bytes(other)
    assert stages.run(config, tmp_path / "run").executed[:1] == ["answers/base/origin"]
    assert stages.run(config, tmp_path / "run").executed == []


def test_po_09_evaluation_leaves_the_weights_as_they_are(world, tmp_path):
    context = Context(settings(world, benchmarks=named(world, "gqa", "mme")), tmp_path)
    pipeline.run({"prepare": lambda: stages.prepare.tasks(context)}, ("prepare",), context.ledger)
    files.write_json(tmp_path / "config.json", {})
    before = hash_params(context.loaded.params), hash_params(context.loaded.frozen)
    pipeline.run({"evaluate": lambda: evaluate.tasks(context)}, ("evaluate",), context.ledger)
    assert "metrics/base/origin" in context.ledger.executed
    assert (hash_params(context.loaded.params), hash_params(context.loaded.frozen)) == before


def test_a_prompt_attack_asks_other_questions_for_rows_of_its_own(world, measured):
    context = Context(settings(world, benchmarks=named(world)), measured)
    plain, attacked = (
        list(benchmarks.asked(context, "base", setting, {}, lambda: None, prompt))
        for setting, prompt in (("origin", None), ("adversarial", "List all!"))
    )
    assert [task.name for task in attacked] == [
        f"benchmarks/base/adversarial/{name}" for name in ("mme", "gqa", "scienceqa", "qbench")
    ]
    for before, after in zip(plain, attacked, strict=True):
        assert before.inputs["requests"] != after.inputs["requests"]


def test_informativeness_judge_looks_at_answers_that_need_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = requests(mmhal.BENCHMARK, write_mmhal(tmp_path / "mmhal"))
    path = tmp_path / "benchmarks" / "base" / "origin" / "mmhal.jsonl"
    path.parent.mkdir(parents=True)
    files.write_jsonl(path, [{**request, "text": "Yes."} for request in asked])
    scores = []
    with JudgeServer(otherwise=says("Rating: 5")) as server:
        for judge in ({}, {"judge": server.base_url, "model": "tiny"}):
            config = settings(
                tmp_path, {"informativeness": judge}, metrics="chair", benchmarks=named(tmp_path, "mmhal")
            )
            context = Context(config, tmp_path)
            ((benchmark, records),) = benchmarks.answered(context, "base", "origin")
            scores.append(benchmark.score(records, records, draws=2)["score"])
            assert (benchmarks.judge_identity(config.evaluate) == {}) == (not judge)
    assert scores == [None, 5]


def test_mistakes_are_said_before_a_model_is_loaded(world, tmp_path, monkeypatch):
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    for changes, names in (
        ({"judge": "deepseek"}, "DEEPSEEK_API_KEY is not set"),
        ({"judge": "http://127.0.0.1:9/v1"}, r"informativeness\.model: empty"),
    ):
        with pytest.raises(UserError, match=names):
            next(evaluate.tasks(Context(settings(world, {"informativeness": changes}), tmp_path)))
        others = {"metrics": "chair", "benchmarks": {"mmhal": str(tmp_path)}}
        with pytest.raises(UserError, match=names):
            next(evaluate.tasks(Context(settings(world, {"informativeness": changes}, **others), tmp_path)))


@dataclass(frozen=True)
class VowelSettings:
    """Of the metric below."""

    letters: str = "aeiou"


def measure_vowels(at_hand: AtHand, options: VowelSettings) -> dict:
    counts = [[1, sum(c in options.letters for c in text)] for text in at_hand.matched.texts]
    table = bootstrap.per_image(at_hand.matched.image_ids, ("captions", "vowels"), np.array(counts))
    return {"metric": "vowels", "mean": bootstrap.value(np.array(counts), VOWELS["mean"]), "per_image": table}


VOWELS = {"mean": bootstrap.ratio(1, 0, scale=1.0)}
METRIC = Metric(
    name="vowels",
    title="Vowels",
    about="vowels of a caption",
    measure=measure_vowels,
    settings=VowelSettings,
    counts={"vowels": ungrouped(("captions", "vowels"), VOWELS)},
    columns=(Measure("vowels", "Vowels", ("vowels", "mean")),),
)
BENCHMARK = dataclasses.replace(gqa.BENCHMARK, name="own")


def test_a_metric_and_a_benchmark_from_outside_are_measured_shown_and_compared(world, tmp_path):
    own = {"metrics": f"chair,{__name__}:METRIC", "benchmarks": {f"{__name__}:BENCHMARK": str(world / "gqa")}}
    config = settings(world, {"vowels": {"letters": "e"}}, **own)
    stages.run(config, tmp_path)
    assert row(tmp_path)["vowels"]["mean"] >= 0
    assert row(tmp_path)["benchmarks"]["own"]["n"] == 2
    spec = spec_of(to_dict(config))
    first, *_ = result_tables(read(tmp_path, spec), spec)
    assert [column.key for column in first.columns][-3:] == ["vowels", "mean_words", "n"]
    found = measuring.differences(Context(config, tmp_path), row(tmp_path), row(tmp_path))
    assert found["vowels.mean"]["difference"] == 0
    assert stages.run(config, tmp_path).executed == []
    assert stages.run(settings(world, **own), tmp_path).executed == ["metrics/base/origin"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": "chair,bleau"}, r"config\.evaluate\.metrics: 'bleau' is not known; did you mean bleu"),
        ({"metrics": "chair,chair"}, "the name 'chair' of chair is taken"),
        ({"metrics": "os.path:join"}, "os.path:join is no Metric"),
        ({"options": {"poppe": {}}}, r"options\.poppe: no metric with settings"),
        ({"options": {"pope": {"image": 3}}}, r"options\.pope\.image: unknown key; did you mean images"),
        ({"options": {"pope": {"prompt": "x"}}}, r"options\.pope\.prompt: must hold {}"),
        ({"benchmarks": {"mnist": "x"}}, r"config\.evaluate\.benchmarks: 'mnist' is not known"),
        ({"pope_images": 3}, r"is called config\.evaluate\.options\.pope\.images now"),
        ({"gqa": "x"}, r"is called config\.evaluate\.benchmarks\.gqa now"),
    ],
)
def test_what_cannot_be_measured_is_said_when_settings_are_made(world, changes, message):
    with pytest.raises(UserError, match=message):
        settings(world, **changes)
