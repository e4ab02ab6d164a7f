"""Config sections and overrides of any other type end in one line that names the key."""

import copy
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from sare_jax.config import parse
from sare_jax.errors import LONGEST_LINE, UserError

ROOT = Path(__file__).resolve().parents[2]
VALUES = (
    None,
    True,
    0,
    1.5,
    float("nan"),
    float("inf"),
    10**400,
    "x",
    "",
    [],
    [1],
    {},
    {"a": 3},
    {1: 2},
    ("a",),
    b"x",
    "\ud83d",
    "x" * 6000,
    {"kind": []},
    {"kind": "relearn"},
)


def demo() -> dict:
    spec = importlib.util.spec_from_file_location("demo_sare", ROOT / "configs" / "demo_sare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config().to_dict()


def places(section: dict, before=()):
    for key, value in section.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from places(value, (*before, key))


def test_every_key_with_values_of_every_type():
    raw = demo()
    parse(raw)
    for place in places(raw):
        for value in VALUES:
            changed = copy.deepcopy(raw)
            section = changed
            for key in place[:-1]:
                section = section[key]
            section[place[-1]] = value
            line = ""
            try:
                parse(changed)
            except UserError as error:
                line = str(error)
            except Exception as error:
                raise AssertionError(f"{place} = {value!r:.80}") from error
            assert not line or line.isprintable()
            assert len(line) <= LONGEST_LINE


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", "images", "config.data: expected a section of keys, got 'images'"),
        ("runs", ["sare"], "config.runs: expected a section of keys"),
        ("stages", 3, "config.stages: expected str, got 3"),
        ("attacks", {"a": 3}, "config.attacks.a: expected a section of keys, got 3"),
        ("optim", {"rho": 10**400}, r"rho: 1000.*0000 is too large"),
        ("optim", {"rho": float("nan")}, "rho: is no number"),
        ("name", {}, "config.name: expected str"),
    ],
)
def test_the_key_is_named(key, value, message):
    with pytest.raises(UserError, match=message):
        parse(demo() | {key: value})


@pytest.mark.parametrize("override", ["optim.checkpoint_every[0]=1", "runs.sare.rho[0]=1", "data[9].x=1"])
def test_overrides_that_have_no_place(override):
    done = subprocess.run(
        [sys.executable, "main.py", "--config", "configs/demo_sare.py", f"--config.{override}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
