"""The command that measures displacement, taught log-odds and separation: what it says of mistakes."""

import subprocess
import sys

import pytest

from sare_jax import files
from sare_jax.config import parse, to_dict


def ended(*arguments):
    command = [sys.executable, "-m", "sare_jax.probe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def workdir(tmp_path):
    model = {"folder": "sare_jax/demo/weights/llava"}
    config = parse({"name": "test", "model": model, "runs": {"sare": {}}, "stages": "caption"})
    files.write_json(tmp_path / "config.json", to_dict(config))
    return tmp_path


def test_mistakes_are_one_line(tmp_path, workdir):
    for arguments, words in (
        ((tmp_path / "no",), "no/config.json: not there; give the workdir of a run"),
        ((workdir, "--runs", "base,typo"), "--runs: 'typo' is no run; they are base, sare"),
        ((workdir, "--images", "-3"), "--images: must be at least 0"),
    ):
        result = ended(*arguments)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert words in result.stderr


def test_what_has_to_run_first_is_named(workdir):
    result = ended(workdir)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "run the stage 'evaluate' first" in result.stderr
