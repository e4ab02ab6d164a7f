"""The examples run from the repository's folder and show what they say."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def run(name: str) -> dict:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_every_example_has_a_test_and_a_line_in_the_docs():
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    tests, page = Path(__file__).read_text(), (ROOT / "docs" / "python.md").read_text()
    assert len(names) == 4
    for name in names:
        assert Path(name).stem in tests
        assert f"examples/{name}" in page


def test_a_small_network_forgets_and_what_comes_back_falls_with_rho(capsys):
    run("targeted_sam_mlp")
    lines = [
        [float(n) for n in re.findall(r"\d\.\d+", line)] for line in capsys.readouterr().out.splitlines()
    ]
    assert [line[0] for line in lines] == [0.0, 0.5, 1.0]
    for _, forgotten, others, _, others_after in lines:
        assert forgotten <= 0.1
        assert min(others, others_after) >= 0.95
    returned = [line[3] for line in lines]
    assert returned[0] > returned[1] > returned[2]
    assert returned[0] > 0.25


def test_the_notebook_runs_and_shows_the_same_of_an_nnx_model(monkeypatch):
    import nbformat
    from nbconvert.preprocessors import ExecutePreprocessor

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(EXAMPLES / "targeted_sam_nnx.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept without results
    ExecutePreprocessor(timeout=300, kernel_name="python3").preprocess(
        notebook, {"metadata": {"path": str(ROOT)}}
    )
    shown = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    found = ast.literal_eval(shown)
    assert [found[rho][0][0] <= 0.05 for rho in (0.0, 0.5, 1.0)] == [True] * 3
    assert all(after[1] >= 0.95 for _, after in found.values())
    assert found[0.0][1][0] > found[0.5][1][0] > found[1.0][1][0]


def test_captions_and_answers_are_scored_from_python(capsys):
    found = run("score_captions")["main"]()
    assert found == {"chair_s": pytest.approx(100 / 3), "accuracy": 50, "yes_ratio": 100}
    printed = capsys.readouterr().out
    assert "invented: dining table, cat, chair" in printed


def test_own_images_captions_and_thresholds_become_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["own_captions", "--out", "tuned", "--steps", "2"])
    run("own_captions")
    printed = capsys.readouterr().out
    sizes = [int(n) for n in re.search(r"D_neg (\d+), D_pos (\d+), D_sent (\d+)", printed).groups()]
    assert min(sizes) > 0
    assert "written to tuned" in printed
    assert (tmp_path / "tuned" / "model.safetensors").is_file()
    assert (tmp_path / "tuned" / "config.json").is_file()
