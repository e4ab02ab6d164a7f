"""TensorBoard and W&B hold what the log holds, each step once, however often a run was interrupted."""

import os
import signal

import pytest

from sare_jax import files, sinks
from sare_jax.errors import UserError
from sare_jax.sinks import Target
from sare_jax.training import loop
from sare_jax.training.checkpoints import Checkpoints
from tests.sinks import written
from tests.training import small_run

READERS = {"tensorboard": written.in_tensorboard, "wandb": written.in_wandb}


@pytest.fixture(params=READERS)
def name(request, monkeypatch) -> str:
    pytest.importorskip(request.param)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return request.param


def train(name, folder, step=small_run.step):
    """A run of eight steps, with a checkpoint every other one."""
    target = Target(folder / name / "mine", "tests", "mine", "my run", {"rho": 0.1})
    with (
        sinks.opened(name, target) as write,
        Checkpoints(folder / "checkpoints", small_run.base(), every=2) as checkpoints,
    ):

        def on_log(records):
            for record in records:
                write(record["step"], {"train/loss": record["loss"]})

        loop.run(
            small_run.first_state(),
            small_run.iterator(),
            step,
            steps=8,
            name="test",
            checkpoints=checkpoints,
            log_path=folder / "log.jsonl",
            fetch_every=1,
            on_log=on_log,
        )
    return target.folder


def held(folder):
    return {
        record["step"]: {"train/loss": pytest.approx(record["loss"], rel=1e-6)}
        for record in files.read_jsonl(folder / "log.jsonl")
    }


def test_a_sink_holds_the_log(name, tmp_path):
    numbers = READERS[name](train(name, tmp_path))
    assert list(numbers) == list(range(1, 9))
    assert numbers == held(tmp_path)


class CrashError(Exception):
    """Stands for anything that ends the process without warning."""


@pytest.mark.parametrize("how", ["crash", "signal"])
def test_a_resumed_run_has_each_step_once(name, how, tmp_path, capfd):
    count = 0

    def step(state, rows):
        nonlocal count
        count += 1
        if count == 6 and how == "crash":
            raise CrashError
        if count == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return small_run.step(state, rows)

    with pytest.raises((CrashError, KeyboardInterrupt)):
        train(name, tmp_path, step)
    assert "Traceback" not in "".join(capfd.readouterr())
    assert len(READERS[name](tmp_path / name / "mine")) == (5 if how == "crash" else 6)
    numbers = READERS[name](train(name, tmp_path))
    assert list(numbers) == list(range(1, 9))
    assert numbers == held(tmp_path)


def test_a_finished_run_is_written_whole_again(name, tmp_path):
    train(name, tmp_path)
    assert READERS[name](train(name, tmp_path)) == held(tmp_path)


def test_wandb_keeps_the_same_id_for_the_same_run(tmp_path):
    pytest.importorskip("wandb")
    first = next(train("wandb", tmp_path).rglob("*.wandb")).name
    assert next(train("wandb", tmp_path).rglob("*.wandb")).name == first


def test_a_name_that_is_not_known_is_refused():
    with pytest.raises(UserError, match=r"config\.log\.sinks: 'tensorbord' is not known; did you mean tens"):
        sinks.sink_named("tensorbord")
