"""Checkpoints: whole or absent, on any devices, of this base model alone. Cases CK-03 to CK-07."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.errors import UserError
from sare_jax.models.shared.partition import hash_params
from sare_jax.training import about as module
from sare_jax.training.checkpoints import (
    Checkpoints,
    load_params,
    save_params,
    saved_hash,
    saved_settings,
    steps_in,
)
from sare_jax.training.sharding import make_mesh, replicated
from tests.training import small_run

ROOT = Path(__file__).resolve().parents[2]


def trained(count=3):
    state, iterator = small_run.first_state(), small_run.iterator()
    for _ in range(count):
        state, _ = small_run.step(state, next(iterator))
    return state, iterator


def saved(folder, step=3, **settings):
    state, iterator = trained(step)
    with Checkpoints(folder, small_run.base(), **settings) as checkpoints:
        checkpoints.save(step, state, iterator)
    return state, iterator


def test_state_and_stream_come_back_as_they_were(tmp_path):
    """Case CK-04: the same types of tree, and an update works on them."""
    state, iterator = saved(tmp_path / "run")
    fresh = small_run.iterator()
    with Checkpoints(tmp_path / "run", small_run.base()) as checkpoints:
        assert checkpoints.latest == 3
        restored, _ = checkpoints.restore(small_run.first_state(), fresh)
    small_run.assert_same(restored, state)
    rows = next(iterator)
    np.testing.assert_array_equal(next(fresh), rows)
    small_run.assert_same(small_run.step(restored, rows)[0], small_run.step(state, rows)[0])


@pytest.mark.parametrize(("there", "here"), [(8, 1), (8, 2), (1, 8)])
@pytest.mark.filterwarnings("error::UserWarning")
def test_any_number_of_devices_can_restore(tmp_path, there, here):
    """Cases CK-03 and SH-03: also inside a mesh context, and without a warning."""
    state, iterator = trained()
    state = jax.device_put(state, replicated(make_mesh(there)))
    with Checkpoints(tmp_path / "run", small_run.base()) as checkpoints:
        checkpoints.save(3, state, iterator)
    mesh = make_mesh(here)
    like = jax.device_put(small_run.first_state(), replicated(mesh))
    with jax.set_mesh(mesh), Checkpoints(tmp_path / "run", small_run.base()) as checkpoints:
        restored, _ = checkpoints.restore(like, small_run.iterator())
    small_run.assert_same(restored, state)
    assert all(leaf.sharding.device_set == set(mesh.devices.flat) for leaf in jax.tree.leaves(restored))


def test_a_save_is_of_its_moment_though_the_state_is_donated_at_once(tmp_path):
    state, iterator = trained(0)
    kept = {}
    with Checkpoints(tmp_path / "run", small_run.base()) as checkpoints:
        for step in range(1, 6):
            state, _ = small_run.step(state, next(iterator))
            kept[step] = small_run.numbers(state)[1]
            checkpoints.save(step, state, iterator)
    for step, params in kept.items():
        found = load_params(tmp_path / "run", small_run.base(), step=step)
        jax.tree.map(np.testing.assert_array_equal, found, params)


def test_only_the_newest_are_kept_where_asked(tmp_path):
    state, iterator = trained(0)
    for keep, left in ((0, [1, 2, 3, 4]), (2, [3, 4])):
        with Checkpoints(tmp_path / str(keep), small_run.base(), keep=keep) as checkpoints:
            for step in range(1, 5):
                checkpoints.save(step, state, iterator)
        assert steps_in(tmp_path / str(keep)) == left


def test_due_steps():
    checkpoints = Checkpoints.__new__(Checkpoints)
    checkpoints.every = 5
    assert [step for step in range(1, 12) if checkpoints.is_due(step)] == [5, 10]
    checkpoints.every = 0
    assert not checkpoints.is_due(5)


KILLED = """
import os, sys
rename = os.rename
def fault(source, target, **kwargs):
    if os.path.basename(os.fspath(target)) == "4":
        os._exit(9)
    return rename(source, target, **kwargs)
os.rename = os.replace = fault
from pathlib import Path
from tests.training import small_run, test_checkpoints
from sare_jax.training.checkpoints import Checkpoints
state, iterator = test_checkpoints.trained(2)
with Checkpoints(Path(sys.argv[1]), small_run.base(), keep=1) as checkpoints:
    checkpoints.save(2, state, iterator)
    checkpoints.wait()
    print("saved 2", flush=True)
    state, _ = small_run.step(state, next(iterator))
    state, _ = small_run.step(state, next(iterator))
    checkpoints.save(4, state, iterator)
    checkpoints.wait()
print("not reached", flush=True)
"""


def test_a_process_killed_while_saving_goes_on_from_the_checkpoint_before(tmp_path, caplog):
    """Case CK-05: the fault strikes where the finished draft would get its name."""
    folder = tmp_path / "run"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (9, "saved 2\n"), run.stderr
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 2
    assert steps_in(folder) == [2]
    with Checkpoints(folder, small_run.base()) as checkpoints:
        assert checkpoints.latest == 2
        restored, _ = checkpoints.restore(small_run.first_state(), small_run.iterator())
    assert "interrupted save" in caplog.text
    small_run.assert_same(restored, trained(2)[0])


def test_a_half_copied_checkpoint_does_not_count(tmp_path, caplog):
    saved(tmp_path / "run", step=2)
    (tmp_path / "run" / "20" / "params").mkdir(parents=True)
    assert steps_in(tmp_path / "run") == [2]
    with Checkpoints(tmp_path / "run", small_run.base()) as checkpoints:
        assert checkpoints.latest == 2
    assert "20: left by an interrupted save" in caplog.text


def test_a_failed_save_surfaces(tmp_path, monkeypatch):
    state, iterator = trained()

    async def full(self, directory):
        async def write():
            raise OSError("disk is full")

        return write()

    monkeypatch.setattr(module.Saved, "save", full)
    checkpoints = Checkpoints(tmp_path, small_run.base())
    checkpoints.save(3, state, iterator)
    with pytest.raises(OSError, match="disk is full"):
        checkpoints.wait()
    assert steps_in(tmp_path) == []


def test_another_base_model_is_refused(tmp_path):
    saved(tmp_path / "run")
    other = small_run.base("bbbb")
    for attempt in (
        lambda: Checkpoints(tmp_path / "run", other),
        lambda: load_params(tmp_path / "run", other),
    ):
        with pytest.raises(UserError, match=r"base model tiny \(aaaa\), not from tiny \(bbbb\)"):
            attempt()


def test_other_settings_are_refused(tmp_path):
    saved(tmp_path / "run", settings={"rho": 0.05, "seed": 0})
    with pytest.raises(UserError, match=r"other settings \(rho\)"):
        Checkpoints(tmp_path / "run", small_run.base(), settings={"rho": 0.1, "seed": 0})


def test_members_that_do_not_fit_are_listed(tmp_path):
    """Case CK-07."""
    saved(tmp_path / "run")
    like = small_run.first_state()
    params = {"layer": {"w": jnp.ones((4, 3)), "scale": jnp.ones(2)}}
    with Checkpoints(tmp_path / "run", small_run.base()) as checkpoints:
        wrong = type(like)(like.step, params, like.opt_state, like.rng)
        expected = r"scale is missing; layer/b is not expected; layer/w has shape \[4, 2\], expected \[4, 3\]"
        with pytest.raises(UserError, match=expected):
            checkpoints.restore(wrong, small_run.iterator())


def test_missing_checkpoints_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no checkpoint; there are none\. Run the unlearn stage"):
        load_params(tmp_path / "nowhere", small_run.base())
    saved(tmp_path / "run")
    with pytest.raises(UserError, match=r"no checkpoint of step 7; there are \[3\]"):
        load_params(tmp_path / "run", small_run.base(), step=7)


def test_parameters_alone_can_be_written_and_read(tmp_path):
    state, _ = trained()
    save_params(tmp_path / "attack", state.params, small_run.base())
    save_params(tmp_path / "attack", state.params, small_run.base())
    found = load_params(tmp_path / "attack", small_run.base())
    jax.tree.map(np.testing.assert_array_equal, found, state.params)
    assert steps_in(tmp_path / "attack") == [0]
    assert saved_settings(tmp_path / "attack") == {}
    assert saved_hash(tmp_path / "attack", 0) == hash_params(state.params)
