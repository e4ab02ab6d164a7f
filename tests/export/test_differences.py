import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sare_jax.export import differences
from sare_jax.models.llava.source import open_llava
from tests.tiny_llava import write_llava

TABLE, HEAD = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"
NORM = "language_model.model.norm.weight"


@pytest.fixture
def pair(tmp_path):
    """A base, and a copy of it that is changed by what the fixture gives."""
    write_llava(tmp_path / "base", save_original_format=True)
    shutil.copytree(tmp_path / "base", tmp_path / "copy")
    file = tmp_path / "copy" / "model.safetensors"

    def changed(change):
        tensors = load_file(file)
        names = {name.removeprefix("model."): name for name in tensors}
        change(tensors, names)
        save_file(tensors, file, metadata={"format": "pt"})
        return differences(open_llava(tmp_path / "base"), tmp_path / "copy")

    return changed


def test_equal_folders_have_none(pair):
    found = pair(lambda tensors, _: None)
    assert (found.changed, found.grown, found.missing, found.added, found.same) == ({}, {}, (), (), 80)
    assert "0 of 80 tensors have other values" in found.text()


def test_one_bit_is_seen(pair):
    def change(tensors, _):
        tensors[NORM].view(np.uint8)[-4] ^= 1

    found = pair(change)
    assert list(found.changed) == [NORM]
    assert 0 < found.changed[NORM] < 1e-6


def test_relative_change_is_that_of_the_norm(pair):
    def change(tensors, _):
        tensors[NORM] = tensors[NORM] * np.float32(1.25)

    assert pair(change).changed[NORM] == pytest.approx(0.25)


def test_dtype_counts_as_a_change(pair):
    def change(tensors, _):
        tensors[NORM] = np.round(tensors[NORM].astype(np.float16), 1).astype(np.float64)

    assert NORM in pair(change).changed


def test_rows_behind_are_growth_and_rows_before_are_a_change(pair):
    def change(tensors, _):
        more = np.ones((2, tensors[TABLE].shape[1]), np.float32)
        tensors[TABLE] = np.concatenate([tensors[TABLE], more])
        tensors[HEAD] = np.concatenate([more, tensors[HEAD]])

    found = pair(change)
    assert found.grown == {TABLE: 2}
    assert found.changed == {HEAD: float("inf")}
    assert f"{TABLE}  2 rows more" in found.text()


def test_missing_and_added_are_named(pair):
    def change(tensors, _):
        tensors["lora.weight"] = tensors.pop(NORM)

    found = pair(change)
    assert (found.missing, found.added) == ((NORM,), ("lora.weight",))
    assert f"{NORM}  is missing" in found.text()
    assert "lora.weight  was added" in found.text()
