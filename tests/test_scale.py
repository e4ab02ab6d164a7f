"""The same results on one device, on eight, and on two processes (cases CK-03, SH-01, SH-03).

Tolerance against one device, in float32: rows are summed in another order, and Adam divides small numbers by
small ones. Losses agree within 1e-6 of their size, weights within 2e-6, after four steps of 1e-3 each.
"""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax import files
from sare_jax.models.llava.export.folder import export_folder
from sare_jax.models.load import load_model
from sare_jax.models.shared import partition
from sare_jax.training.checkpoints import load_params, steps_in
from sare_jax.training.sharding import make_mesh
from tests import scale_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world")
    scale_run.write_world(root)
    return root


@pytest.fixture(scope="module")
def alone(root):
    """One device: the folder of the run, its tuned weights, and what they say."""
    params = train(root, root / "alone", (1, 1), steps=4)
    mesh = make_mesh(1)
    return root / "alone", params, scale_run.caption(root, load(root, (1, 1)), params, mesh)


@functools.cache
def load(root, shape):
    """One model a mesh, so that its step is compiled once."""
    return scale_run.load(root, make_mesh(*shape))


def train(root, out, shape, steps):
    return scale_run.train(root, out, make_mesh(*shape), load(root, shape), steps)


@pytest.mark.parametrize("shape", [(1, 8), (4, 2)], ids=str)
def test_eight_devices_do_all_that_one_does(root, alone, shape):
    """Load, train with checkpoints, caption, restore onto 1 and 2 devices (CK-03), export."""
    mesh, out = make_mesh(*shape), root / f"mesh_{shape[0]}_{shape[1]}"
    loaded = load(root, shape)
    for path, leaf in partition.flatten(loaded.frozen).items():
        is_matrix = leaf.ndim - ("/layers/" in path) > 1
        parts = {str(shard.index) for shard in leaf.addressable_shards}
        assert len(parts) == (shape[1] if is_matrix else 1), path

    params = train(root, out, shape, steps=4)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(params))
    assert_close(params, alone[1])
    assert_same_losses(out, alone[0])
    assert scale_run.caption(root, loaded, params, mesh) == alone[2]

    export_folder(loaded.source, params, out / "export")
    assert_equal(load_model(out / "export", dtype=jnp.float32).params, params)
    for devices in (1, 2):
        fewer = make_mesh(1, devices)
        with jax.set_mesh(fewer):  # case SH-03
            restored = load_params(out / "checkpoints", load(root, (1, devices)))
        assert_equal(restored, params)
        for leaf in jax.tree.leaves(restored):
            assert leaf.sharding.device_set == set(fewer.devices.flat)


def test_ck_03_a_run_goes_on_from_divided_weights_on_fewer_devices(root, alone):
    """Two steps with the weights over eight devices, two more on two: the uninterrupted run of one."""
    out = root / "fewer"
    train(root, out, (1, 8), steps=2)
    params = train(root, out, (1, 2), steps=4)
    assert steps_in(out / "checkpoints") == [2, 4]
    assert_close(params, alone[1])
    assert_same_losses(out, alone[0])


def test_two_processes_train_together_and_write_once(root, alone):
    """Four devices, two a process, share rows and weights; one process goes on where both stopped."""
    out = root / "two"
    said = processes(root, out, steps=2)
    assert said == ["0 of 2, 4 devices", "1 of 2, 4 devices"]
    first, second = (np.load(out / f"process_{number}.npz") for number in (0, 1))
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name])
    assert len(files.read_jsonl(out / "log.jsonl")) == 2
    # Orbax leaves its mark of a finished item there or not, as the hosts finish.
    about = {path.name for path in (out / "checkpoints" / "2" / "about").iterdir()}
    assert about - {"commit_success.txt"} == {"about.json", "log.jsonl"}
    assert_close(train(root, out, (1, 1), steps=4), alone[1])
    assert_same_losses(out, alone[0])


def test_processes_that_do_not_fit_together_are_refused():
    run = subprocess.run(
        [sys.executable, "main.py", "--config", "configs/demo_sare.py", "--num_processes=2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: --coordinator=ADDRESS:PORT, --num_processes=N and --process_id")


def processes(root: Path, out: Path, steps: int) -> list[str]:
    """Runs `scale_run` in two processes; the last line of each."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags}
    arguments = [sys.executable, "-m", "tests.scale_run", str(root), str(out), "0", "2", str(steps), address]
    running = [
        subprocess.Popen(
            [*arguments, "2", str(number)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    said = []
    for process in running:
        output, errors = process.communicate(timeout=250)
        assert process.returncode == 0, errors
        said.append(output.splitlines()[-1])
    return said


def assert_close(here, there):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), here, there)


def assert_equal(here, there):
    jax.tree.map(np.testing.assert_array_equal, here, there)


def assert_same_losses(here, there):
    logs = [files.read_jsonl(out / "log.jsonl") for out in (here, there)]
    for one, other in zip(*logs, strict=True):
        for name in ("neg", "pos", "sent", "neg_perturbed"):
            assert one[name] == pytest.approx(other[name], rel=1e-6), (one["step"], name)
