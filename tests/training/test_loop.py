"""The loop resumes bit for bit, stops cleanly, keeps nothing that is not finite (CK-01, CK-05, OP-13)."""

import json
import os
import signal

import jax.numpy as jnp
import pytest

from sare_jax import files
from sare_jax.errors import Terminated, UserError
from sare_jax.progress import Bar
from sare_jax.training import loop
from sare_jax.training.checkpoints import Checkpoints, steps_in
from tests.training import small_run

STEPS = 8  # two epochs and two thirds


def run(folder=None, step=small_run.step, steps=STEPS, every=2, **settings):
    state, iterator = small_run.first_state(), small_run.iterator()
    settings = {"name": "test", "fetch_every": 3, "steps": steps} | settings
    if folder is None:
        return loop.run(state, iterator, step, **settings)
    with Checkpoints(folder / "run", small_run.base(), every=every) as checkpoints:
        return loop.run(
            state, iterator, step, checkpoints=checkpoints, log_path=folder / "log.jsonl", **settings
        )


def striking(at, action):
    """The step, with something done while step number `at` runs."""
    count = 0

    def step(state, rows):
        nonlocal count
        count += 1
        if count == at:
            action()
        return small_run.step(state, rows)

    return step


def test_the_log_has_a_line_a_step(tmp_path):
    state = run(tmp_path)
    records = files.read_jsonl(tmp_path / "log.jsonl")
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    assert set(records[0]) == {"step", "loss", "noise", "first_row"}
    assert steps_in(tmp_path / "run") == [2, 4, 6, 8]
    small_run.assert_same(state, run())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [1, 5])
def test_a_signal_saves_and_the_resumed_run_is_the_uninterrupted_one(tmp_path, number, at):
    """Case CK-01: bit for bit, in the second epoch too, metrics included."""
    whole = run(tmp_path / "whole")
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=f"stopped after step {at}") as stopped:
        run(tmp_path / "cut", striking(at, lambda: os.kill(os.getpid(), number)))
    assert isinstance(stopped.value, Terminated) == (number == signal.SIGTERM)
    assert signal.getsignal(number) is before
    assert steps_in(tmp_path / "cut" / "run")[-1] == at
    resumed = run(tmp_path / "cut")
    small_run.assert_same(resumed, whole)
    assert (tmp_path / "cut" / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()


class CrashError(Exception):
    """Stands for anything that ends the process without warning."""


def crash():
    raise CrashError


def test_after_a_crash_the_log_is_cut_back_to_the_checkpoint(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(CrashError):
        run(tmp_path / "cut", striking(6, crash), every=4, fetch_every=1)
    log = tmp_path / "cut" / "log.jsonl"
    assert len(log.read_text().splitlines()) == 5
    with log.open("a") as stream:
        stream.write('{"step": 6, "lo')
    resumed = run(tmp_path / "cut", every=4)
    small_run.assert_same(resumed, whole)
    assert log.read_text() == (tmp_path / "whole" / "log.jsonl").read_text()


def test_a_finished_run_does_nothing_again(tmp_path):
    whole = run(tmp_path)
    again = run(tmp_path, striking(1, crash))
    small_run.assert_same(again, whole)


def test_more_steps_carry_a_finished_run_on(tmp_path):
    run(tmp_path, steps=5)
    small_run.assert_same(run(tmp_path), run())


@pytest.mark.parametrize("fetch_every", [1, 3, 100])
def test_what_is_not_finite_stops_the_run_and_is_never_saved(tmp_path, fetch_every):
    bad = 5

    def step(state, rows):
        state, metrics = small_run.step(state, rows)
        broken = jnp.where(state.step >= bad, jnp.nan, metrics["loss"])
        return state, metrics | {"loss": broken}

    with pytest.raises(loop.NotFiniteError, match=f"step {bad}: loss not finite.*learning_rate"):
        run(tmp_path, step, fetch_every=fetch_every)
    assert steps_in(tmp_path / "run") == [2, 4]
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4]


def test_a_collapsing_run_ends_early_with_its_checkpoint(tmp_path, capsys):
    """Case OP-13."""
    losses = [r["loss"] for r in files.read_jsonl(run(tmp_path / "free") and tmp_path / "free" / "log.jsonl")]
    limit = (losses[5] + losses[2]) / 2
    assert losses[2] > limit > losses[5]
    state = run(tmp_path / "cut", limits={"loss": (limit, 10.0)}, every=100)
    assert int(state.step) == 6
    assert steps_in(tmp_path / "cut" / "run") == [6]
    assert "test: stopped at step 6, loss" in capsys.readouterr().out


def test_limits_of_unknown_metrics_are_refused():
    with pytest.raises(UserError, match=r"limits\.utility: no such metric; there are"):
        run(limits={"utility": (0.0, 1.0)})


def test_progress_shows_the_first_step_and_the_metrics(monkeypatch):
    shown = []
    monkeypatch.setattr(Bar, "update", lambda bar, units: shown.append(units))
    monkeypatch.setattr(Bar, "note", lambda bar, text: shown.append(text))
    run(every=3)
    counts = [value for value in shown if isinstance(value, int)]
    assert counts[0] == 1
    assert sum(counts) == STEPS
    assert "L_ft" in shown[-1]


def test_a_short_run_needs_no_checkpoints_and_stops_on_a_signal():
    small_run.assert_same(run(), run())
    with pytest.raises(KeyboardInterrupt):
        run(step=striking(2, lambda: os.kill(os.getpid(), signal.SIGINT)))
