"""A run that stopped between two checkpoints, then one file damaged: it ends with the same bits."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.training import loop
from sare_jax.training.checkpoints import Checkpoints, load_params, saved_hash, steps_in
from tests.faults.mutate import DAMAGES, flip
from tests.training import small_run

STEPS = 6


def run(folder: Path, steps=STEPS):
    with Checkpoints(folder / "run", small_run.base(), every=2) as checkpoints:
        return loop.run(
            small_run.first_state(),
            small_run.iterator(),
            small_run.step,
            steps=steps,
            name="test",
            checkpoints=checkpoints,
            log_path=folder / "log.jsonl",
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return small_run.numbers(run(folder)), (folder / "log.jsonl").read_bytes()


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("half")
    run(folder, steps=4)
    assert steps_in(folder / "run") == [2, 4]
    return folder


def assert_ends_alike(folder, whole):
    import jax

    state = run(folder)
    jax.tree.map(np.testing.assert_array_equal, small_run.numbers(state), whole[0])
    assert (folder / "log.jsonl").read_bytes() == whole[1]
    for step in steps_in(folder / "run"):
        load_params(folder / "run", small_run.base(), step=step)
    assert steps_in(folder / "run")[-1] == STEPS


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_file_of_the_newest_checkpoint(half, whole, tmp_path, damage):
    names = [path.relative_to(half) for path in (half / "run" / "4").rglob("*") if path.is_file()]
    assert len(names) > 8
    # A file that is missing or has other bytes, whichever it is; of the other three, each takes a third.
    thirds = {"empty": 0, "junk": 1, "cut": 2}
    chosen = sorted(names)[thirds[damage] :: 3] if damage in thirds else sorted(names)
    for number, name in enumerate(chosen):
        folder = tmp_path / str(number)
        shutil.copytree(half, folder)
        DAMAGES[damage](folder / name)
        assert_ends_alike(folder, whole)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_log(half, whole, tmp_path, damage):
    shutil.copytree(half, tmp_path / "run")
    DAMAGES[damage](tmp_path / "run" / "log.jsonl")
    assert_ends_alike(tmp_path / "run", whole)


def test_no_sound_checkpoint_begins_anew_and_says_so(half, whole, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(half, folder)
    for step in ("2", "4"):
        flip(next(iter(sorted((folder / "run" / step / "params").rglob("d/*")))))
    assert_ends_alike(folder, whole)
    assert "4: damaged" in caplog.text
    assert "2: damaged" in caplog.text


def test_what_is_dropped_is_named(half, whole, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(half, folder)
    (folder / "run" / "4" / "about" / "about.json").write_bytes(b"")
    assert_ends_alike(folder, whole)
    assert "about.json: not valid JSON" in caplog.text
    assert "an earlier one is used" in caplog.text


def test_damaged_parameters_are_not_handed_out(half, tmp_path):
    shutil.copytree(half, tmp_path / "run")
    for path in (tmp_path / "run" / "run" / "4" / "params").rglob("d/*"):
        flip(path)
    with pytest.raises(UserError, match=r"4: damaged .*run the stage that made it again"):
        load_params(tmp_path / "run" / "run", small_run.base())


def test_equal_values_have_equal_hashes_though_the_folders_differ(tmp_path):
    for name in ("a", "b"):
        run(tmp_path / name, steps=2)
    a, b = (tmp_path / name / "run" for name in ("a", "b"))
    assert files.digest(a) != files.digest(b)
    assert saved_hash(a, 2) == saved_hash(b, 2)
