"""Standard output that has not all letters, names of files that are no text, numbers that none can draw."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.settings.building import build
from sare_jax.settings.evaluate import EvaluateConfig
from sare_jax.settings.optim import OptimConfig

ROOT = Path(__file__).resolve().parents[2]


def chair(folder: Path, *options: str, name: bytes = b"c.jsonl", encoding: str = "ascii"):
    (folder / "t.json").write_text('{"1": ["dog"]}')
    captions = folder / os.fsdecode(name)
    captions.write_text(json.dumps({"image_id": 1, "caption": "A dog … é", "model": "é"}) + "\n")
    command = [sys.executable, "-m", "sare_jax.evaluation", "chair", "--truth", str(folder / "t.json")]
    return subprocess.run(
        [*command, "--captions", str(captions), *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("option", ["--json", "--explain"])
def test_letters_that_the_terminal_lacks_are_spelt(tmp_path, option):
    ended = chair(tmp_path, option)
    assert (ended.returncode, ended.stderr) == (0, "")
    if option == "--json":
        assert json.loads(ended.stdout)["settings"]["model"] == "é"
    else:
        assert "\\u2192" in ended.stdout


def test_a_files_name_that_is_no_text_is_spelt(tmp_path):
    ended = chair(tmp_path, "--json", name=b"c\xff.jsonl", encoding="utf-8")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["settings"]["captions"]["file"] == "c\udcff.jsonl"
    value = {os.fsdecode(b"c\xff"): 1}
    files.write_json(tmp_path / "a.json", value)
    files.write_jsonl(tmp_path / "a.jsonl", [value])
    assert files.read_json(tmp_path / "a.json") == {"c\ufffd": 1}
    assert files.read_jsonl(tmp_path / "a.jsonl") == [{"c\ufffd": 1}]
    assert files.hash_value(value) != files.hash_value({"c\ufffd": 1})


@pytest.mark.parametrize("option", ["--seed=-1", "--seed=99999999999", "--draws=0", "--draws=100000000000"])
def test_numbers_that_none_can_draw_are_refused(tmp_path, option):
    ended = chair(tmp_path, option)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith(("to 4294967295", "to 1000000"))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_of_the_settings_is_one_that_every_generator_takes(seed):
    with pytest.raises(UserError, match=f"config.optim.seed: must be from 0 to 4294967295, got {seed}"):
        build(OptimConfig, {"seed": seed}, "config.optim")


def test_draws_of_the_settings_fit_into_memory():
    with pytest.raises(UserError, match=r"config\.evaluate\.bootstrap: must be at most 1000000"):
        build(EvaluateConfig, {"bootstrap": 10**9}, "config.evaluate")
