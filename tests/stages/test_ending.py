"""What a run says at its end, and that all of it is events where `--log_json` asks for them."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sare_jax import progress, stages
from sare_jax.config import parse
from sare_jax.pipeline import Took
from sare_jax.stages import ending
from tests import tiny_llava
from tests.evaluation.small_worlds import write_coco
from tests.report.workdirs import make_workdir

ROOT = Path(__file__).resolve().parents[2]
ALL = "prepare,caption,curate,unlearn,evaluate,attack,export,report"
TOOK = [Took("unlearn", 2, 61.25, 118.5), Took("evaluate", 0, 0.5, 0.4), Took("report", 5, 12.0, 13.0)]


@pytest.fixture(autouse=True)
def _shown_plainly():
    yield
    progress.show_as("auto")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """Results of a finished run, and a page."""
    folder = make_workdir(tmp_path_factory.mktemp("finished"))
    (folder / "report.html").write_text("a page")
    return folder


def config(stages: str = ALL):
    runs = {name: {"label": name} for name in ("efuf", "sare")}
    return parse({"name": "x", "stages": stages, "model": {"folder": "model"}, "runs": runs})


def test_a_run_ends_with_table_report_seconds_and_what_is_next(workdir, capsys):
    ending.say(config(), workdir, TOOK)
    shown = capsys.readouterr().out.splitlines()
    assert any("CHAIR_S" in line for line in shown)
    first = next(place for place, line in enumerate(shown) if line.startswith("stage "))
    assert [line.split() for line in shown[first : first + 4]] == [
        ["stage", "tasks", "seconds", "CPU", "seconds"],
        ["unlearn", "2", "61.2", "118.5"],
        ["report", "5", "12.0", "13.0"],
        ["total", "7", "73.2", "131.5"],
    ]
    page = workdir / "report.html"
    assert shown[-2:] == [
        f"report: {page}",
        f"next: open {page}; for a run beside these, the same command with --run mine=robust,rho=0.1",
    ]


def test_a_finished_run_that_is_called_again_has_its_table_too(workdir, capsys):
    ending.say(config(), workdir, [dataclasses.replace(took, tasks=0) for took in TOOK])
    shown = capsys.readouterr().out.splitlines()
    assert any("CHAIR_S" in line for line in shown)
    assert "every stage was up to date" in shown
    assert f"report: {workdir / 'report.html'}" in shown


@pytest.mark.parametrize(
    ("chosen", "later"),
    [("prepare,caption", "curate,unlearn,evaluate,attack,report"), ("attack", "report")],
)
def test_after_some_of_the_stages_the_others_are_next(chosen, later, tmp_path, capsys):
    ending.say(config(chosen), tmp_path, [])
    assert capsys.readouterr().out.splitlines()[-1] == f"next: the same command with --config.stages={later}"


def test_metrics_that_cannot_be_read_do_not_fail_a_run_that_is_done(workdir, tmp_path, capsys):
    (tmp_path / "report.html").write_text("a page")
    ending.say(config("prepare"), tmp_path, TOOK[:1])
    assert capsys.readouterr().out.startswith("no table: ")


def test_the_result_is_one_event(workdir, capsys):
    progress.show_as("json")
    ending.say(config(), workdir, TOOK)
    (line,) = capsys.readouterr().out.splitlines()
    event = json.loads(line)
    assert event["event"] == "result"
    assert event["report"] == str(workdir / "report.html")
    assert any("CHAIR_S" in line for line in event["table"])
    assert event["stages"] == [dataclasses.asdict(took) for took in TOOK]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_coco(root / "annotations", {i: ["dog"] for i in range(1, 5)}, {})
    (root / "images").mkdir()
    for i, picture in enumerate(tiny_llava.pictures(4), start=1):
        picture.save(root / "images" / f"COCO_val2014_{i:012d}.jpg")
    return root


def overrides(world: Path) -> list[str]:
    data = {name: world / name for name in ("images", "annotations")}
    data |= {"reserve_validation": 1, "reserve_test": 1, "prepare": ""}
    return ["--config.stages=prepare", *(f"--config.data.{name}={value}" for name, value in data.items())]


def test_with_log_json_nothing_plain_is_printed(world, tmp_path):
    ended = subprocess.run(
        [
            *(sys.executable, "main.py", "--config=llava_sare", f"--workdir={tmp_path}", "--log_json"),
            *overrides(world),
        ],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    named = [event["event"] for event in events if event["event"] not in ("message", "progress")]
    assert named == ["workdir", "stage", "stage_done", "result"]
    assert events[0]["workdir"] == str(tmp_path)
    assert not [event for event in events if event.get("text", "").startswith(("workdir", "[prepare]"))]
    assert events[-1]["stages"][0]["tasks"] == 1


@pytest.mark.parametrize("kind", ["quiet", "auto"])
def test_quiet_leaves_the_end_alone(kind, world, tmp_path, capsys):
    progress.show_as(kind)
    data = {name: str(world / name) for name in ("images", "annotations")}
    data |= {"reserve_validation": 1, "reserve_test": 1}
    settings = parse({"name": "x", "stages": "prepare", "data": data, "model": {"folder": "model"}})
    with progress.showing():
        ledger = stages.run(settings, tmp_path)
    ending.say(settings, tmp_path, ledger.took)
    shown = capsys.readouterr().out
    assert shown.startswith("workdir " if kind == "auto" else "stage ")
    assert ("[prepare] 1 task" in shown) == (kind == "auto")
