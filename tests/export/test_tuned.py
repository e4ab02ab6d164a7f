"""Tuned tensors alone: their names, and what reading them back refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from sare_jax.errors import UserError
from sare_jax.models.llava.export.tuned import export_efuf, export_projector, load_llava_tuned
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import content_hash, load_model
from sare_jax.models.shared.partition import flatten
from sare_jax.models.shared.safetensors_io import read_header
from tests.tiny_llava import write_llava
from tests.tiny_original import write_original

HUB = ["linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"]
HUB = {f"multi_modal_projector.{name}" for name in HUB}
ORIGINAL = {f"model.mm_projector.{number}.{leaf}" for number in (0, 2) for leaf in ("weight", "bias")}


@pytest.fixture(scope="module", params=["hub", "original"])
def base(request, tmp_path_factory):
    """(source, tuned parameters, names of the projector's tensors in its files)"""
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "hub":
        # Names of the hub, and not those that transformers 5 has in memory.
        write_llava(root / "base", save_original_format=True)
    else:
        write_original(root / "base", root / "tower", dtype=torch.float16)
    source = open_llava(root / "base")
    rng = np.random.default_rng(0)
    params = load_model(source, dtype=jnp.float32).params
    moved = jax.tree.map(lambda leaf: leaf + 1e-3 * rng.normal(size=leaf.shape).astype(np.float32), params)
    return source, moved, HUB if request.param == "hub" else ORIGINAL


def assert_equal(one, other):
    one, other = flatten(one), flatten(other)
    assert one.keys() == other.keys()
    for path, value in one.items():
        np.testing.assert_array_equal(value, other[path])


def test_projector_file_has_the_bases_own_names(base, tmp_path):
    source, params, names = base
    export_projector(source, params, tmp_path / "out", step=7)
    file = tmp_path / "out" / "projector.safetensors"
    tensors = load_file(file)
    assert tensors.keys() == names
    kernel = np.asarray(params["projector"]["linear_1"]["kernel"])
    first = next(name for name in names if name.endswith(("linear_1.weight", "0.weight")))
    np.testing.assert_array_equal(tensors[first], kernel.T)
    about = read_header(file)[1]
    assert about["format"] == "pt"
    assert about["step"] == "7"
    assert about["base_hash"] == content_hash(source)
    assert_equal(load_llava_tuned(file, source), params)


def test_efuf_file_is_a_state_dict_of_llavas_own_names_whatever_the_base(base, tmp_path):
    source, params, _ = base
    settings = {"learning_rate": 1e-5, "instruction": "Describe.", "stop": ["a"], "seed": 0, "packed": True}
    export_efuf(source, params, tmp_path / "out", step=1200, settings=settings)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "step_001200.pth"]
    state = torch.load(tmp_path / "out" / "step_001200.pth", weights_only=True)
    assert state.keys() == ORIGINAL
    assert all(tensor.is_contiguous() and tensor.dtype == torch.float32 for tensor in state.values())
    kernel = np.asarray(params["projector"]["linear_2"]["kernel"])
    np.testing.assert_array_equal(state["model.mm_projector.2.weight"], kernel.T)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["learning_rate"] == 1e-5
    assert config["step"] == 1200
    assert "stop" not in config
    assert_equal(load_llava_tuned(tmp_path / "out" / "step_001200.pth", source), params)


def test_files_of_efufs_own_training_are_read(base, tmp_path):
    """bf16, with the buffers that `state_dict` includes and no requires_grad removes."""
    source, params, _ = base
    projector = params["projector"]
    state = {}
    for number, layer in ((0, "linear_1"), (2, "linear_2")):
        for leaf, own in (("weight", "kernel"), ("bias", "bias")):
            value = torch.from_numpy(np.array(projector[layer][own]).T.copy())
            state[f"model.mm_projector.{number}.{leaf}"] = value.bfloat16()
    tower = "model.vision_tower.vision_tower.vision_model.embeddings.position_ids"
    buffers = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3), tower: torch.arange(4)}
    torch.save(state | buffers, tmp_path / "step_000010.pth")
    found = load_llava_tuned(tmp_path / "step_000010.pth", source)
    assert_equal(found, jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {f"module.{name}": v for name, v in t.items()}, "missing: .*unexpected: module"),
        (lambda t: dict(list(t.items())[:3]), "missing: "),
        (lambda t: {**t, "lm_head.weight": np.zeros((2, 2), np.float32)}, r"unexpected: lm_head\.weight"),
        (lambda t: {name: v[:-1] for name, v in t.items()}, r"mis-shaped: .*is \[.*need \["),
        (lambda t: {"x": np.zeros(1, np.float32)}, "missing: .*; unexpected: x"),
    ],
    ids=["prefix", "partial", "more", "shape", "nothing"],
)
@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_ge_05_file_that_does_not_match_wholly_is_refused(base, change, message, form, tmp_path):
    source, params, _ = base
    export_projector(source, params, tmp_path / "out")
    tensors = change(load_file(tmp_path / "out" / "projector.safetensors"))
    file = tmp_path / f"changed.{form}"
    if form == "safetensors":
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, file)
    else:
        torch.save({name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, file)
    with pytest.raises(UserError, match=f"changed.*does not fit.*{message}"):
        load_llava_tuned(file, source)


def test_other_parameters_than_the_projector_keep_their_layers(tmp_path):
    write_llava(tmp_path / "base")
    source = open_llava(tmp_path / "base")
    chosen = r"language_model/layers/up/kernel|vision_tower/class_token"
    params = load_model(source, dtype=jnp.float32, trainable=chosen).params
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    export_efuf(source, doubled, tmp_path / "out", step=1, settings={})
    state = torch.load(tmp_path / "out" / "step_000001.pth", weights_only=True)
    tower = "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding"
    assert state.keys() == {tower, *(f"model.layers.{n}.mlp.up_proj.weight" for n in range(2))}
    assert_equal(load_llava_tuned(tmp_path / "out" / "step_000001.pth", source, chosen), doubled)


def test_target_with_other_files_is_left_alone(base, tmp_path):
    source, params, _ = base
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo.jpg").touch()
    with pytest.raises(UserError, match="no such export"):
        export_projector(source, params, tmp_path / "out")
    with pytest.raises(UserError, match="no such export"):
        export_efuf(source, params, source.folder, step=1, settings={})
    assert (source.folder / "config.json").exists()


def test_new_step_replaces_the_one_before(base, tmp_path):
    """EFUF's reader takes the last file of the folder."""
    source, params, _ = base
    export_efuf(source, params, tmp_path / "out", step=200, settings={})
    export_efuf(source, params, tmp_path / "out", step=100, settings={})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "step_000100.pth"]
