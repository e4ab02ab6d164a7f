"""`log.sinks`: runs and their metrics go to the sinks of the config, as the workdir's files hold them."""

import sys
from pathlib import Path

import pytest

from sare_jax import files, stages
from sare_jax.config import parse, to_dict
from sare_jax.errors import UserError
from sare_jax.settings.road import Config
from sare_jax.stages import preflight
from sare_jax.stages.context import Context
from tests.sinks import written
from tests.stages.test_own_sets import settings
from tests.stages.test_own_sets import world as world  # a fixture


def config(root: Path, sinks: str, names: str = "prepare,curate,unlearn,evaluate") -> Config:
    """Sets of the user's own, three steps, CHAIR."""
    raw = to_dict(settings(root, root / "sets", stages=names))
    del raw["run_labels"]
    raw["runs"] = {"mine": {"label": "my run", "steps": 3, "batch_size": 1}}
    raw["evaluate"] |= {"metrics": "chair", "max_new_tokens": 4, "bootstrap": 10}
    raw["log"] = {"sinks": sinks}
    return parse(raw)


def measured(workdir: Path, run: str) -> dict:
    """CHAIR as its file says, with the names of the sinks."""
    chair = files.read_json(workdir / "metrics" / run / "origin.json")["chair"]
    return {"origin/chair.chair_s": chair["chair_s"], "origin/chair.recall": chair["recall"]}


def test_sinks_hold_what_the_files_say_live_and_when_called_for_later(world, tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("wandb")
    done = stages.run(config(world, "tensorboard", "prepare,curate,unlearn"), tmp_path).executed
    assert done == ["prepare/splits", "curate", "unlearn/mine"]
    curve = {
        record["step"]: {f"train/{key}": value for key, value in record.items() if key != "step"}
        for record in files.read_jsonl(tmp_path / "logs" / "mine.jsonl")
    }
    assert list(curve) == [1, 2, 3]
    live = written.in_tensorboard(tmp_path / "tensorboard" / "mine")
    assert live == {step: pytest.approx(numbers, rel=1e-6) for step, numbers in curve.items()}

    both = config(world, "tensorboard,wandb")
    stages.run(both, tmp_path)
    for read, name in ((written.in_tensorboard, "tensorboard"), (written.in_wandb, "wandb")):
        mine, base = (read(tmp_path / name / run) for run in ("mine", "base"))
        shown = measured(tmp_path, "mine")
        assert shown["origin/chair.chair_s"] is not None
        assert shown.items() <= mine[3].items()
        last = {key: value for key, value in mine[3].items() if not key.startswith("origin/")}
        assert mine | {3: last} == {step: pytest.approx(n, rel=1e-6) for step, n in curve.items()}
        assert list(base) == [0]
        assert measured(tmp_path, "base").items() <= base[0].items()
    assert stages.run(both, tmp_path).executed == []


def test_a_package_that_is_missing_is_one_line_that_names_the_extra(world, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tensorboard", "wandb")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("tensorboard", "wandb"):
        monkeypatch.delitem(sys.modules, f"sare_jax.sinks.{name}", raising=False)
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError) as caught:
            preflight.check(Context(config(world, name, "prepare,curate,unlearn"), tmp_path))
        assert str(caught.value) == (
            f"config.log.sinks: {name!r} needs {name}: pip install 'sare_jax[{name}]'"
        )
        preflight.check(Context(config(world, name, "prepare,curate"), tmp_path))
