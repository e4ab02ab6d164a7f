"""The command `sare`: one table of names, read without jax and torch."""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sare_jax import __main__ as sare
from sare_jax.evaluation.command import OTHERS, TABLE
from sare_jax.evaluation.metrics.metric import Metric
from sare_jax.extensions import resolve

ROOT = Path(__file__).resolve().parents[1]
BY_FLAGS = ("run", "plan", "reproduce")  # of absl, not argparse


def command(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", sare.COMMANDS)
def test_every_name_stands_for_a_function_of_the_command_line(name):
    module, _, attribute = sare.COMMANDS[name].target.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_every_score_that_has_a_command_has_a_name():
    values = {name: resolve(name, TABLE, "sare") for name in TABLE}
    with_command = [name for name, value in values.items() if not isinstance(value, Metric) or value.command]
    assert {*with_command, *OTHERS} <= set(sare.COMMANDS)


def test_the_list_has_each_name_and_is_printed_without_jax_and_torch():
    code = (
        "import sys; from sare_jax.__main__ import main; main(['--help']); "
        "assert not {'jax', 'torch', 'numpy', 'flax', 'transformers'} & set(sys.modules)"
    )
    result = command("-c", code)
    assert result.returncode == 0, result.stderr
    listed = [line.split()[0] for line in result.stdout.splitlines()[1:]]
    assert listed == list(sare.COMMANDS)


@pytest.mark.parametrize(
    ("name", "advice"), [("chiar", "did you mean chair?"), ("xyz", "they are run, plan")]
)
def test_an_unknown_name_is_one_line(name, advice, capsys):
    with pytest.raises(SystemExit) as exit_:
        sare.main([name])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert advice in line


@pytest.mark.parametrize(
    ("path", "typed"),
    [("/env/bin/sare", "sare"), ("/env/site-packages/sare_jax/__main__.py", "python -m sare_jax")],
)
@pytest.mark.parametrize("name", ["chair", "pope", "gqa", "curate", "report", "frontier", "reproduce"])
def test_usage_lines_name_what_was_typed(path, typed, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [path, name, "--help"])
    with pytest.raises(SystemExit) as exit_:
        sare.main()
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {typed} {name} ")


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_a_run_says_its_flags_and_ends_with_status_0(word):
    """As all other commands do; absl's own status would be 1, and it has no -h."""
    result = command("-m", "sare_jax", "run", word)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: python -m sare_jax run --config NAME_OR_FILE ")
    assert "--workdir" in result.stdout


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        ([], "for example: python -m sare_jax run --config demo_sare"),
        (["demo_sare:short"], "write --config demo_sare:short"),
        (["configs/demo_sare.py"], "write --config configs/demo_sare.py"),
        (["nix"], "write --flag=value"),
    ],
    ids=str,
)
def test_a_run_without_its_config_says_how_it_is_given(words, way_out):
    result = command("-m", "sare_jax", "run", *words)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.endswith(way_out)


@pytest.fixture
def parsers(monkeypatch) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, without its work."""
    found: dict[str, argparse.ArgumentParser] = {}

    def parse_args(parser, *_, **__):
        found[parser.prog] = parser
        raise SystemExit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", ["/env/bin/sare"])
    for name in sare.COMMANDS:
        if name not in BY_FLAGS:
            monkeypatch.setattr(sys, "argv", ["/env/bin/sare"])
            with pytest.raises(SystemExit):
                sare.main([name, "x"])
    return found


def test_every_command_and_every_option_says_what_it_is(parsers):
    assert sorted(parsers) == sorted(f"sare {name}" for name in sare.COMMANDS if name not in BY_FLAGS)
    todo, silent = list(parsers.values()), []
    while todo:
        parser = todo.pop()
        silent += [] if parser.description else [parser.prog]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                todo += action.choices.values()
            elif not action.help:
                silent.append(f"{parser.prog} {action.option_strings or action.dest}")
    assert silent == []


@pytest.mark.parametrize("name", [name for name in sare.COMMANDS if name not in ("run", "plan")])
def test_an_option_that_is_not_known_ends_with_status_2(name, monkeypatch, capsys):
    """Those of `run` are tried in tests/test_command.py, in processes of their own."""
    monkeypatch.setattr(sys, "argv", ["/env/bin/sare"])
    with pytest.raises(SystemExit) as exit_:
        sare.main([name, "--nix"])
    assert exit_.value.code == 2
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert f"sare {name}" in told.out + told.err


def test_it_runs_as_a_module_from_another_folder(tmp_path):
    result = command("-m", "sare_jax", "run", "--config=demo_sare:long", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: configs/demo_sare.py:long: the variants are full and short\n"
