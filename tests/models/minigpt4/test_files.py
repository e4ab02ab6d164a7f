"""The files that a MiniGPT-4 is published in: what is missing, refused, ignored and filled in."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sare_jax.errors import UserError
from sare_jax.models.families import find_family, model_folder, open_source
from sare_jax.models.load import abstract, check_names, content_hash
from sare_jax.models.minigpt4.family import FAMILY
from sare_jax.models.shared.target import here
from sare_jax.settings import ModelConfig
from tests.models.minigpt4.tiny import write_minigpt4


class Run:
    """An object that only running its pickle could make."""


class Payload:
    """An object whose pickle makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module", params=["llama2", "vicuna"])
def written(request, tmp_path_factory):
    return write_minigpt4(tmp_path_factory.mktemp(request.param), request.param)


def checked(source):
    _, shapes = abstract(source.family, source.config, here())
    check_names(source, shapes)


def test_everything_that_is_read_is_in_the_table_and_nothing_else(written):
    source = open_source(model_folder(written.settings), written.settings)
    checked(source)
    names = {name for entry in source.family.entries(source.config) for name in entry.names()}
    assert {name for name in source.tensors if not source.family.is_buffer(name)} == names
    for name, tensor in written.tensors.items():
        np.testing.assert_array_equal(source.tensors[name].map(), tensor.numpy())


def test_one_error_lists_all_that_is_missing(tmp_path):
    files = {"eva_vit": str(tmp_path / "eva.pth"), "qformer": ""}
    settings = ModelConfig(folder=str(tmp_path / "llama"), family="minigpt4", files=files)
    with pytest.raises(UserError) as error:
        model_folder(settings)
    for part in ("config.json", "model.safetensors", "tokenizer.model", f"eva_vit ({tmp_path / 'eva.pth'})"):
        assert part in str(error.value)
    for part in (
        "files.pretrained (not set)",
        "files.qformer (not set)",
        "hf download Vision-CAIR/vicuna-7b",
    ):
        assert part in str(error.value)


def test_files_that_are_there_are_not_missed_with_a_llama_that_is_not(written):
    """The LLaMA is named by its id, as in the shipped configs."""
    files = dict(written.settings.files) | {"pretrained": "nowhere.pth"}
    with pytest.raises(UserError) as error:
        model_folder(dataclasses.replace(written.settings, folder="nobody/no-such-llama", files=files))
    assert "tokenizer.model, config.model.files.pretrained (nowhere.pth)" in str(error.value)
    assert "eva_vit_g.pth)" not in str(error.value)


def test_a_missing_file_is_named_alone(written):
    files = dict(written.settings.files) | {"pretrained": "nowhere.pth"}
    settings = dataclasses.replace(written.settings, files=files)
    with pytest.raises(UserError, match=r"did not find config\.model\.files\.pretrained \(nowhere\.pth\)\. "):
        open_source(model_folder(settings), settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"eva": "x"}}, r"config\.model\.files\.eva: unknown key; did you mean eva_vit"),
        ({"vision_tower": "x"}, r"config\.model\.vision_tower: is 'x'"),
        ({"image_mode": "pad"}, r"config\.model\.image_mode: is 'pad'"),
        ({"template": "hub"}, r"config\.model\.template: is 'hub'"),
    ],
)
def test_settings_of_other_families_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        FAMILY.config_of(ModelConfig(folder="meta-llama/Llama-2-7b-chat-hf", **changes))


def test_a_llama_alone_is_of_no_family(written):
    with pytest.raises(UserError, match="by its name alone, --config"):
        find_family(ModelConfig(folder=written.settings.folder))


def test_the_norm_that_no_file_has_is_the_identity_and_that_is_said(tmp_path, capsys):
    written = write_minigpt4(tmp_path, "llama2")
    tensors = open_source(written.settings.folder, written.settings).tensors
    assert "ln_vision.weight" not in written.tensors
    assert (tensors["ln_vision.weight"].map() == 1).all()
    assert (tensors["ln_vision.bias"].map() == 0).all()
    assert "pretrained_minigpt4.pth: has no ln_vision; its scale is 1" in capsys.readouterr().err
    normed = write_minigpt4(tmp_path / "normed", "llama2_norm").settings
    capsys.readouterr()
    open_source(normed.folder, normed)
    assert "ln_vision" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "key", "lost", "missing"),
    [
        ("vicuna", "qformer", ("ln_vision.weight", "ln_vision.bias"), r"ln_vision\.weight, ln_vision\.bias"),
        ("llama2_norm", "pretrained", ("ln_vision.bias",), r"ln_vision\.bias"),
    ],
)
def test_a_norm_that_should_be_there_or_is_half_there_is_missing(tmp_path, name, key, lost, missing):
    settings = write_minigpt4(tmp_path, name).settings
    edit(settings.files[key], lambda tensors: [tensors.pop(each) for each in lost])
    with pytest.raises(UserError, match=f"missing: {missing}$"):
        checked(open_source(settings.folder, settings))


def test_the_other_forms_projection_is_refused(tmp_path):
    settings = write_minigpt4(tmp_path / "a", "vicuna").settings
    files = {key: path for key, path in settings.files.items() if key != "qformer"}
    with pytest.raises(UserError, match=r"llama_proj.weight is \[48, 16\], need \[48, 96\]"):
        checked(open_source(settings.folder, dataclasses.replace(settings, files=files)))


def edit(file, change):
    """Changes the tensors of a torch file."""
    kept = torch.load(file, weights_only=True)
    change(kept.get("model", kept))
    torch.save(kept, file)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("eva_vit", "blocks.1.attn.k_bias"),
        ("eva_vit", "blocks.0.gamma_1"),
        ("qformer", "Qformer.bert.encoder.layer.1.crossattention.self.query.weight"),
    ],
)
def test_layers_with_more_than_is_run_are_refused(tmp_path, key, name):
    """What a file has beside the table is left out, but not of a layer that is run: it would be missed."""
    settings = write_minigpt4(tmp_path, "vicuna").settings
    edit(settings.files[key], lambda tensors: tensors.update({name: torch.ones(3)}))
    with pytest.raises(UserError, match=rf"{settings.files[key]}: has {name}, which MiniGPT-4's own"):
        open_source(settings.folder, settings)
    edit(settings.files[key], lambda tensors: tensors.pop(name))
    checked(open_source(settings.folder, settings))


def test_a_layer_that_does_not_look_at_the_image_is_missing_that(tmp_path):
    settings = write_minigpt4(tmp_path, "vicuna").settings
    name = "Qformer.bert.encoder.layer.0.crossattention.self.key.weight"
    edit(settings.files["qformer"], lambda tensors: tensors.pop(name))
    with pytest.raises(UserError, match=f"missing: {name}$"):
        checked(open_source(settings.folder, settings))


@pytest.mark.parametrize("name", ["blocks.1.attn.q_bias", "pos_embed"])
def test_one_name_less_is_seen(written, tmp_path, name):
    tensors = torch.load(written.settings.files["eva_vit"], weights_only=True)
    del tensors[name]
    torch.save(tensors, tmp_path / "eva.pth")
    files = dict(written.settings.files) | {"eva_vit": str(tmp_path / "eva.pth")}
    with pytest.raises(UserError, match=f"missing: {name}$"):
        checked(open_source(written.settings.folder, dataclasses.replace(written.settings, files=files)))


def test_the_hash_is_of_what_is_read(written, tmp_path):
    """Not of the optimizer's state, the epoch, or the blocks that nobody runs."""
    source = open_source(written.settings.folder, written.settings)
    kept = torch.load(written.settings.files["pretrained"], weights_only=True)
    hashes = []
    for change in (0, 1):
        bias = kept["model"]["llama_proj.bias"] + change
        torch.save({"model": kept["model"] | {"llama_proj.bias": bias}}, tmp_path / f"{change}.pth")
        files = dict(written.settings.files) | {"pretrained": str(tmp_path / f"{change}.pth")}
        settings = dataclasses.replace(written.settings, files=files)
        hashes.append(content_hash(open_source(settings.folder, settings)))
    assert hashes[0] == content_hash(source) != hashes[1]


@pytest.mark.parametrize("place", ["beside", "inside"])
@pytest.mark.parametrize("key", ["eva_vit", "pretrained", "qformer"])
def test_a_file_that_would_run_something_is_refused_and_does_not(tmp_path, key, place):
    settings = write_minigpt4(tmp_path, "vicuna").settings
    mark, file = tmp_path / "ran", settings.files[key]
    kept = torch.load(file, weights_only=True)
    target = kept if place == "beside" else kept.get("model", kept)
    target["payload"] = Payload(mark)
    torch.save(kept, file)
    with pytest.raises(UserError, match=rf"{file}: refused, since it asks for \w+\.system, which could run"):
        open_source(settings.folder, settings)
    assert not mark.exists()
    command, arguments = Payload(mark).__reduce__()
    command(*arguments)
    assert mark.exists()  # so it would have been seen


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}, "config": Run()}, r"pretrained\.pth: refused, since it asks for"),
        ({"state": {}}, r"pretrained\.pth: has no 'model', under which its tensors should lie"),
        ({"model": {"llama_proj.bias": 3}}, r"no tensor is llama_proj\.bias"),
    ],
)
def test_files_that_are_none_of_tensors_are_refused(written, tmp_path, content, message):
    torch.save(content, tmp_path / "pretrained.pth")
    files = dict(written.settings.files) | {"pretrained": str(tmp_path / "pretrained.pth")}
    with pytest.raises(UserError, match=message):
        open_source(written.settings.folder, dataclasses.replace(written.settings, files=files))
