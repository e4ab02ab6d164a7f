"""The paper's tables and figures from a finished run's files, and the command's mistakes."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sare_jax import files
from sare_jax.config import parse
from sare_jax.configs import demo_baselines
from sare_jax.errors import UserError
from sare_jax.evaluation.holm import holm
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.extensions import resolve
from sare_jax.report.contrasts import contrast
from sare_jax.reproduce import EXPERIMENTS
from sare_jax.reproduce.baselines import shares
from sare_jax.reproduce.drawn import chosen
from sare_jax.reproduce.experiment import made
from sare_jax.reproduce.repeats import with_seeds
from sare_jax.reproduce.rows import paper_rows
from sare_jax.reproduce.writing import as_latex, write
from sare_jax.stages.context import Context
from tests import tiny_llava
from tests.report.workdirs import make_workdir

ROOT = Path(__file__).resolve().parents[2]
RAW = demo_baselines.get_config().to_dict()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """A finished run's files, and a model that says which it is."""
    workdir = make_workdir(tmp_path_factory.mktemp("reproduced"))
    (workdir / "model").mkdir()
    tiny_llava.write_llava(workdir / "model")
    return workdir


def made_for(name: str, workdir: Path):
    experiment = resolve(name, EXPERIMENTS, "reproduce")
    raw = experiment.changed(RAW)
    raw["model"] = RAW["model"] | {"folder": str(workdir / "model")}
    return experiment, made(Context(parse(raw), workdir))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_settings_of_its_own_that_are_valid(name):
    config = parse(resolve(name, EXPERIMENTS, "reproduce").changed(RAW))
    assert {"efuf", "sare"} <= set(config.runs)
    assert "report" not in config.stages
    assert config.runs["efuf"].rho == 0


def test_runs_of_one_name_have_the_same_settings_everywhere():
    """All experiments share a workdir, so one that changed a run would make the others train it again."""
    known = {}
    for name in EXPERIMENTS:
        for run, settings in parse(resolve(name, EXPERIMENTS, "reproduce").changed(RAW)).runs.items():
            assert known.setdefault(run, settings) == settings, (name, run)


def test_benchmarks_are_asked_where_they_are_shown():
    asked = {
        name: {
            key
            for key, path in parse(
                resolve(name, EXPERIMENTS, "reproduce").changed(RAW)
            ).evaluate.benchmarks.items()
            if path
        }
        for name in EXPERIMENTS
    }
    assert asked["fig3"] == {"mme", "gqa", "scienceqa", "qbench"}
    assert not any(asked[name] for name in EXPERIMENTS if name not in ("fig3", "fig5"))


def test_shares_of_time_are_those_of_the_records(workdir):
    for task, seconds in (("caption", 30.0), ("curate", 10.0), ("unlearn/efuf", 60.0)):
        files.write_json(workdir / "records" / f"{task}.json", {"status": "done", "seconds": seconds})
    _, found = made_for("fig5", workdir)
    (group,) = shares(found).groups
    rows = {row.key: [cell.text for cell in row.cells] for row in group.rows}
    assert rows == {"caption": ["30.0", ""], "curate": ["10.0", ""], "unlearn/efuf": ["60.0", "40"]}


def test_table1_has_ours_beside_the_papers_and_a_test_beside_both(workdir):
    experiment, found = made_for("table1", workdir)
    (table,) = experiment.page(found).tables
    rows = {row.key: row for group in table.groups for row in group.rows}
    columns = [column.key for column in table.columns]
    row = dict(zip(columns, rows["sare/relearn_140"].cells, strict=True))
    assert row["chair_s"].value == pytest.approx(
        json.loads((workdir / "metrics/sare/relearn_140.json").read_text())["chair"]["chair_s"]
    )
    paired = contrast(found.inputs, found.spec, "sare", "efuf", "relearn_140", CHAIR_S)
    assert row["difference"].value == pytest.approx(paired.difference)
    assert row["difference"].interval == paired.interval
    assert paired.p <= row["p"].value <= 1
    paper = dict(zip(columns, rows["sare/relearn_140/paper"].cells, strict=True))
    assert (paper["chair_s"].text, paper["pope_f1"].text, paper["perplexity"].text) == (
        "34.6",
        "86.1",
        "0.099",
    )
    assert paper["recall"].text == "–", "the paper prints none"
    assert [c.text for c in rows["efuf/origin"].cells[-2:]] == ["", ""], (
        "the baseline is not held against itself"
    )
    assert "Rows called paper are of LLaVA-v1.5-7B." in table.notes
    assert any(note.startswith("Not run: ") for note in table.notes), "robust is not in this workdir"


def test_with_seeds_rows_are_means_with_intervals_over_both(workdir, tmp_path):
    repeated = tmp_path / "repeated"
    shutil.copytree(workdir, repeated)
    for run, other in (("efuf", "unlikelihood"), ("sare", "unlikelihood_sam")):
        for part in ("metrics", "answers"):
            shutil.copytree(repeated / part / other, repeated / part / f"{run}_seed1")
    experiment = resolve("table3", EXPERIMENTS, "reproduce")
    raw = with_seeds(experiment.changed(RAW), 2)
    assert raw["runs"]["sare_seed1"]["seed"] == 1
    raw["model"] = RAW["model"] | {"folder": str(workdir / "model")}
    found = made(Context(parse(raw), repeated))
    (table,) = experiment.page(found).tables
    rows = {row.key: row for group in table.groups for row in group.rows}
    assert not any("seed" in key for key in rows)
    columns = [column.key for column in table.columns]
    row = dict(zip(columns, rows["sare/origin"].cells, strict=True))
    values = {
        run: json.loads((repeated / f"metrics/{run}/origin.json").read_text())["chair"]["chair_s"]
        for run in ("sare", "sare_seed1", "efuf", "efuf_seed1")
    }
    ours, theirs = (np.mean([values[run], values[f"{run}_seed1"]]) for run in ("sare", "efuf"))
    assert row["chair_s"].value == pytest.approx(ours)
    assert row["difference"].value == pytest.approx(ours - theirs)
    low, high = row["chair_s"].interval
    assert low < min(values["sare"], values["sare_seed1"]) <= max(values["sare"], values["sare_seed1"]) < high
    assert any("over 2 training seeds" in note for note in table.notes)


def test_the_papers_rows_are_whole():
    counts = {
        name: {model: len(rows) for model, rows in paper_rows(name).items()}
        for name in ("table1", "table2", "table3", "table4")
    }
    assert counts == {
        "table1": {"LLaVA-v1.5-7B": 13, "mPLUG-Owl-7B": 13},
        "table2": {"LLaVA-v1.5-7B": 4},
        "table3": {"MiniGPT-4": 3, "ShareGPT4V": 3},
        "table4": {"LLaVA-v1.5-7B": 12},
    }
    widths = {len(row) for name in counts for rows in paper_rows(name).values() for row in rows.values()}
    assert widths == {10, 8}, "Table 3 has no human audit"


def test_holm_is_that_of_the_definition():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_files_say_what_the_table_says(workdir, tmp_path):
    experiment, found = made_for("table1", workdir)
    page = experiment.page(found)
    written = write("table1", "Table 1", page, found.spec, tmp_path)
    assert [path.name for path in written] == ["table1.html", "table1.md", "table1.tex", "table1.csv"]
    (table,) = page.tables
    lines = list(csv.DictReader((tmp_path / "table1.csv").open()))
    assert len(lines) == sum(len(group.rows) for group in table.groups)
    first = lines[0]
    assert math.isclose(float(first["CHAIR_S"]), table.groups[0].rows[0].cells[0].value)
    assert float(first["CHAIR_S, low"]) <= float(first["CHAIR_S"]) <= float(first["CHAIR_S, high"])
    html = (tmp_path / "table1.html").read_text()
    assert html.count("<tr") == len(lines) + len(table.groups) + 1


def test_latex_has_no_letter_that_it_would_read_as_a_command(workdir):
    experiment, found = made_for("table1", workdir)
    (table,) = experiment.page(found).tables
    text = as_latex(table)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert not re.search(r"(?<!\\)[#%_](?!\d\$)", body)
    assert body.isascii()
    assert body.count(r"\\") == sum(len(group.rows) + 1 for group in table.groups) + 1
    lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in lines} == {len(table.columns)}


def test_cases_are_those_that_the_attack_changes_most(workdir, tmp_path):
    experiment, found = made_for("fig6", workdir)
    images = chosen(found)
    page = experiment.page(found)
    assert images == [exhibit.image_id for exhibit in page.exhibits]
    assert len(images) == 4
    (written,) = write("fig6", "Fig. 6", page, found.spec, tmp_path)
    articles = written.read_text().split("<article")[1:]
    assert len(articles) == 4
    assert all('<mark class="invented"' in text and "After relearn 140" in text for text in articles)
    _, again = made_for("fig6", workdir)
    assert chosen(again) == images


def test_the_relearning_curve_is_drawn(workdir, tmp_path):
    experiment, found = made_for("fig1", workdir)
    written = write("fig1", "Fig. 1", experiment.page(found), found.spec, tmp_path)
    drawings = [path for path in written if path.suffix == ".svg"]
    assert len(drawings) == 4
    for path in drawings:
        text = path.read_text()
        assert len(text) < 100_000
        assert "var(--" not in text
        ElementTree.fromstring(text)
        labels = [found.spec.label(run) for run in experiment.page(found).figures.runs]
        assert labels
        assert all(f">{label}</text>" in text for label in labels), (
            "a drawing alone says whose lines they are"
        )


def test_a_config_without_the_papers_run_is_one_line():
    runs = {"efuf": RAW["runs"]["efuf"]}
    with pytest.raises(UserError, match=r"config\.runs\.sare: missing, and table2 is made from it"):
        resolve("table2", EXPERIMENTS, "reproduce").changed(RAW | {"runs": runs})


def test_an_unknown_name_is_one_line():
    run = subprocess.run(
        [sys.executable, "-m", "sare_jax.reproduce", "table9"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: table9: not known; give one of table1, table2")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--plan"], "--plan: not for sare_jax.reproduce"),
        (["--run", "mine=sare"], "--run: not for sare_jax.reproduce"),
        (["--config.name=a", "--config.optim.objective=nothing"], "config.optim.objective"),
    ],
)
def test_options_are_followed_or_refused(options, line):
    """Keys need no --config before them; none of these commands starts a stage."""
    command = [sys.executable, "-m", "sare_jax.reproduce", "table2", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("c.optim = {'seed': 'a'}", "config.optim.seed: expected int, got 'a'"),
        ("c.runs = {'sare': 3, 'efuf': {}}", "config.runs.sare: expected a section"),
    ],
)
def test_a_config_file_with_a_wrong_value_is_one_line(tmp_path, change, line):
    """What experiments read of it before they change it is checked first."""
    (tmp_path / "own.py").write_text(
        "from sare_jax.configs import demo_baselines\n"
        "def get_config():\n"
        "    c = demo_baselines.get_config()\n"
        "    c.unlock()\n"
        f"    {change}\n"
        "    return c\n"
    )
    command = [sys.executable, "-m", "sare_jax.reproduce", "table3", f"--config={tmp_path / 'own.py'}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {line}")


def test_a_run_named_like_a_repeat_is_refused():
    runs = {"sare": RAW["runs"]["sare"], "sare_seed1": RAW["runs"]["sare"]}
    with pytest.raises(UserError, match=r"config\.runs\.sare_seed1: --seeds names repeats"):
        with_seeds(RAW | {"runs": runs}, 1)
