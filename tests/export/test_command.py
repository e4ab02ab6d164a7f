"""`python -m sare_jax.export` on checkpoints as training writes them."""

import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from sare_jax.command import guarded
from sare_jax.export import shards
from sare_jax.export.command import main
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model
from sare_jax.models.shared.partition import hash_params
from sare_jax.training.checkpoints import Checkpoints, save_params
from sare_jax.training.state import init_state
from tests.tiny_llava import write_llava
from tests.tiny_original import write_original


class Nowhere:
    """An iterator that has no place to save."""

    def get_state(self):
        return {}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A base, and the checkpoints of steps 2 and 4, in which the projector is 2 and 4 times the base's."""
    root = tmp_path_factory.mktemp("run")
    write_llava(root / "base", max_shard_size="100KB")
    loaded = load_model(root / "base", dtype=jnp.float32)
    settings = {"learning_rate": 1e-5, "instruction": "Describe."}
    with Checkpoints(root / "checkpoints", loaded, settings=settings, every=2) as checkpoints:
        for step in (2, 4):
            params = jax.tree.map(lambda leaf, step=step: step * leaf, loaded.params)
            checkpoints.save(step, init_state(params, optax.sgd(0.1), 0), Nowhere())
    return root, loaded


def arguments(root, out, checkpoint="checkpoints", base="base"):
    return ["--checkpoint", str(root / checkpoint), "--base", str(root / base), "--out", str(out)]


def failing(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        guarded(main)(arguments)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2
    return lines[-1]


def projector(folder):
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.model.multi_modal_projector.linear_1.weight.detach().numpy()


def test_ex_07_newest_checkpoint_becomes_a_folder_and_what_changed_is_printed(run, tmp_path):
    root, loaded = run
    command = [sys.executable, "-m", "sare_jax.export", *arguments(root, tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "4 of 80 tensors have other values than in the base:" in done.stdout
    assert "multi_modal_projector.linear_1.weight  by 3 of its norm" in done.stdout
    assert "the other 76 are the same to the byte" in done.stdout
    params = jax.tree.map(lambda leaf: 4 * leaf, loaded.params)
    assert f"exported step 4 of {root / 'checkpoints'}, parameters {hash_params(params)[:12]}" in done.stdout
    kernel = np.asarray(loaded.params["projector"]["linear_1"]["kernel"])
    np.testing.assert_array_equal(projector(tmp_path / "out"), 4 * kernel.T)


def test_step_can_be_named(run, tmp_path, capsys):
    root, loaded = run
    main(arguments(root, tmp_path / "out", "checkpoints/2"))
    kernel = np.asarray(loaded.params["projector"]["linear_1"]["kernel"])
    np.testing.assert_array_equal(projector(tmp_path / "out"), 2 * kernel.T)
    assert "exported step 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "file"), [("projector", "projector.safetensors"), ("efuf", "step_000004.pth")]
)
def test_other_forms(run, form, file, tmp_path, capsys):
    root, loaded = run
    main([*arguments(root, tmp_path / "out"), "--form", form])
    assert (tmp_path / "out" / file).is_file()
    count = sum(leaf.size for leaf in jax.tree.leaves(loaded.params))
    assert f"4 tensors, {count:,} parameters, read back and equal" in capsys.readouterr().out


def test_what_was_written_wrongly_is_noticed(run, tmp_path, capsys, monkeypatch):
    root, _ = run
    write = shards.write_file

    def broken(file, layout, data, metadata):
        write(file, layout, (array * 2 if array.ndim == 2 else array for array in data), metadata)

    monkeypatch.setattr(shards, "write_file", broken)
    last = failing(capsys, arguments(root, tmp_path / "out"))
    assert "language_model.lm_head.weight" in last
    assert "were not tuned" in last
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: save({k: v * 2 for k, v in state.items()}, file))
    last = failing(capsys, [*arguments(root, tmp_path / "efuf"), "--form", "efuf"])
    assert "projector/linear_1/kernel" in last
    assert "not as they were written" in last


def test_original_base_with_its_tower_elsewhere(tmp_path, capsys):
    write_original(tmp_path / "base", tmp_path / "tower", mm_vision_tower="openai/clip-not-here")
    loaded = load_model(open_llava(tmp_path / "base", str(tmp_path / "tower")), dtype=jnp.float32)
    save_params(tmp_path / "checkpoints", loaded.params, loaded)
    main([*arguments(tmp_path, tmp_path / "out"), "--vision-tower", str(tmp_path / "tower")])
    printed = capsys.readouterr().out
    assert "0 of 80 tensors have other values than in the base" in printed
    assert "language_model.lm_head.weight  16 rows more, the others the same" in printed
    assert "clip-not-here" in failing(capsys, arguments(tmp_path, tmp_path / "other"))


def test_another_base_is_refused(run, tmp_path, capsys):
    root, _ = run
    write_llava(root / "other", seed=1)
    last = failing(capsys, arguments(root, tmp_path / "out", base="other"))
    assert "made from the base model base (" in last
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("checkpoint", "base", "more", "message"),
    [
        ("nothing", "base", [], "no checkpoint there"),
        ("checkpoints/3", "base", [], "no checkpoint of step 3; there are 2, 4"),
        ("checkpoints", "nothing", [], "no whole model there"),
        (
            "checkpoints",
            "base",
            ["--form", "onnx"],
            "'onnx' is not known; give one of folder",
        ),
    ],
)
def test_mistakes_are_one_line_and_status_2(run, checkpoint, base, more, message, tmp_path, capsys):
    assert message in failing(capsys, arguments(run[0], tmp_path / "out", checkpoint, base) + more)


def test_too_little_room_is_said_before_anything_is_written(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    last = failing(capsys, arguments(run[0], tmp_path / "out"))
    assert "GB are needed there, 0.0 GB are free" in last
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from sare_jax.export import shards
from sare_jax.export.command import main

write = shards.write_file
def write_two(file, *rest):
    if "00002" in file.name:
        os.kill(os.getpid(), signal.SIGKILL)
    write(file, *rest)
shards.write_file = write_two
main(sys.argv[1:])
"""


def test_killed_export_never_looks_whole_and_the_next_one_cleans_up(run, tmp_path):
    given = arguments(run[0], tmp_path / "out")
    killed = subprocess.run([sys.executable, "-c", KILLED, *given], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert re.fullmatch(r"\.out\..+\.draft", left.name)
    assert os.listdir(left)
    main(given)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    subprocess.run([sys.executable, "-c", KILLED, *given], capture_output=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
