"""What `make` installs, and from where, is decided before anything is downloaded."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

PATH = Path(__file__).resolve().parents[1] / "requirements" / "install.py"


@pytest.fixture
def install(monkeypatch):
    spec = importlib.util.spec_from_file_location("install", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv("TORCH", raising=False)
    return module


def commands(install, monkeypatch, tmp_path, *, gpu: bool, index: bool, file="requirements.txt") -> list[str]:
    """The command that would install, on a machine with or without a GPU and PyTorch's index."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    ran: list[list[str]] = []
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if gpu else None)
    monkeypatch.setattr(install, "reached", lambda url: index)
    monkeypatch.setattr(subprocess, "run", lambda words: ran.append(words) or SimpleNamespace(returncode=0))
    with pytest.raises(SystemExit) as ended:
        install.main(str(tmp_path), file)
    assert ended.value.code == 0
    return ran[0]


@pytest.mark.parametrize(
    ("torch", "gpu", "index", "from_cpu_index", "said"),
    [
        ("", False, True, True, "0.5 GB"),
        ("", False, False, False, "cannot be reached"),
        ("", True, True, False, "3.3 GB"),
        ("cuda", False, True, False, "3.3 GB"),
        ("cpu", True, True, True, "0.5 GB"),
    ],
)
def test_cpu_builds_where_there_is_no_gpu(
    install, monkeypatch, tmp_path, capsys, torch, gpu, index, from_cpu_index, said
):
    monkeypatch.setenv("TORCH", torch)
    command = commands(install, monkeypatch, tmp_path, gpu=gpu, index=index)
    assert (install.CPU_INDEX in command) is from_cpu_index
    assert command[-2:] == ["--requirement", "requirements.txt"]
    (line,) = capsys.readouterr().out.splitlines()
    assert said in line


def test_tests_add_to_what_the_demo_needs(install, monkeypatch, tmp_path, capsys):
    command = commands(install, monkeypatch, tmp_path, gpu=False, index=True, file="requirements-dev.txt")
    assert install.CPU_INDEX in command  # or pip would look for the other builds
    assert "0.3 GB more" in capsys.readouterr().out


def test_make_demo_installs_no_tools_of_tests_and_make_test_does(tmp_path):
    asked = ("make", "--dry-run", f"VENV={tmp_path / 'venv'}")
    demo = subprocess.run([*asked, "demo"], cwd=PATH.parents[1], capture_output=True, text=True, check=True)
    test = subprocess.run([*asked, "test"], cwd=PATH.parents[1], capture_output=True, text=True, check=True)
    assert "requirements.txt" in demo.stdout
    assert "requirements-dev.txt" not in demo.stdout
    assert test.stdout.index("requirements.txt") < test.stdout.index("requirements-dev.txt")


def test_any_other_choice_is_refused(install, monkeypatch):
    monkeypatch.setenv("TORCH", "gpu")
    with pytest.raises(SystemExit, match="TORCH=gpu: give cpu or cuda"):
        install.main("", "requirements.txt")


def test_an_index_that_does_not_answer_is_not_reached(install):
    assert not install.reached("http://127.0.0.1:9")
