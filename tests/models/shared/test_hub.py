"""A model by folder, by id in the local cache, by id from the hub, or not at all."""

import fnmatch
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from sare_jax.errors import UserError
from sare_jax.models.families import model_folder
from sare_jax.models.llava.hub import resolve_tower
from sare_jax.models.shared import hub
from sare_jax.settings import ModelConfig

ROOT = Path(__file__).resolve().parents[3]
FILES = ("config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json")
TORCH_FILES = ("config.json", "pytorch_model.bin", "tokenizer.model")
INDEX = "model.safetensors.index.json"


def make_files(folder, names=FILES):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text('{"model_type": "llava"}')
    return folder


def folder_of(name, tower=""):
    return model_folder(ModelConfig(folder=name, vision_tower=tower))


def put_in_cache(monkeypatch, cache, name, names=FILES):
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = make_files(repository / "snapshots" / ("a" * 40), names)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return snapshot


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A hub of folders in place of the real one; gives what was fetched from it, by name."""
    remote, local, fetched = tmp_path / "remote", tmp_path / "local", []

    def snapshot_download(name, local_files_only=False, allow_patterns=()):
        if local_files_only or not (remote / name).is_dir():
            raise LocalEntryNotFoundError(name)
        (local / name).mkdir(parents=True, exist_ok=True)
        for file in (remote / name).iterdir():
            wanted = any(fnmatch.fnmatch(file.name, pattern) for pattern in allow_patterns)
            if wanted and not (local / name / file.name).exists():
                shutil.copy(file, local / name / file.name)
                fetched.append(file.name)
        return str(local / name)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub.online, "hub_answers", lambda: True)
    return remote, fetched


def test_a_folder_is_itself(tmp_path):
    folder = make_files(tmp_path / "llava")
    assert folder_of(str(folder)) == folder


def test_an_id_is_found_in_the_local_cache(tmp_path, monkeypatch):
    snapshot = put_in_cache(monkeypatch, tmp_path, "someone/llava")
    assert folder_of("someone/llava") == snapshot


def test_a_half_filled_cache_names_the_missing_shard(tmp_path, monkeypatch):
    names = ("config.json", INDEX, "tokenizer.json", "preprocessor_config.json")
    snapshot = put_in_cache(monkeypatch, tmp_path, "someone/llava", names)
    (snapshot / INDEX).write_text(json.dumps({"weight_map": {"w": "model-00001-of-00001.safetensors"}}))
    with pytest.raises(UserError, match=r"not there: model-00001-of-00001\.safetensors"):
        folder_of("someone/llava")


def test_torch_files_are_not_fetched_where_there_are_safetensors(network):
    remote, fetched = network
    make_files(
        remote / "someone" / "llava", (*FILES, *TORCH_FILES[1:], "flax_model.msgpack", "training_args.bin")
    )
    folder_of("someone/llava")
    assert sorted(fetched) == sorted([*FILES, "tokenizer.model"])


def test_torch_files_are_fetched_where_there_is_nothing_else(network):
    remote, fetched = network
    index = "pytorch_model.bin.index.json"
    shard = "pytorch_model-00001-of-00001.bin"
    names = ("config.json", index, shard, "tokenizer.model", "mm_projector.bin", "training_args.bin")
    folder = make_files(remote / "liuhaotian" / "llava-v1.5-7b", names)
    (folder / "config.json").write_text(json.dumps({"mm_vision_tower": "openai/x"}))
    (folder / index).write_text(json.dumps({"weight_map": {"w": shard}}))
    folder_of("liuhaotian/llava-v1.5-7b")
    assert sorted(fetched) == sorted(names[:-1])


def test_a_tower_is_fetched_by_id_with_its_processor(network, tmp_path):
    remote, fetched = network
    make_files(remote / "someone" / "clip", ("config.json", "model.safetensors", "preprocessor_config.json"))
    needed = {**hub.WEIGHT_FILES, **hub.PROCESSOR_FILE}
    assert resolve_tower("someone/clip", tmp_path, needed).name == "clip"
    assert len(fetched) == 3


def test_an_unknown_id_names_the_files_and_the_way_out():
    with pytest.raises(UserError) as error:
        folder_of("nobody-here/no-such-model")
    for word in ("config.json", "model.safetensors", "tokenizer.json", "hf download", "model.folder"):
        assert word in str(error.value)
    assert "hf download nobody-here/no-such-model" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_keeps_a_download_from_ending_is_said(monkeypatch):
    def snapshot_download(name, local_files_only=False, allow_patterns=()):
        raise LocalEntryNotFoundError(name) if local_files_only else OSError("No space left on device")

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub.online, "hub_answers", lambda: True)
    with pytest.raises(UserError, match=r"downloaded from here \(OSError: No space left on device\)"):
        folder_of("someone/llava")


def test_a_folder_without_a_model_names_what_is_missing(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        folder_of(str(tmp_path))


def test_the_original_form_needs_no_image_processor_of_its_own(tmp_path):
    folder = make_files(tmp_path / "llava", TORCH_FILES)
    with pytest.raises(UserError, match=r"did not find preprocessor_config\.json"):
        folder_of(str(folder))
    (folder / "config.json").write_text(json.dumps({"mm_vision_tower": "openai/x"}))
    assert folder_of(str(folder)) == folder


@pytest.mark.parametrize(
    ("name", "tower", "models"),
    [
        ("llava-hf/llava-1.5-7b-hf", "", ["llava-hf/llava-1.5-7b-hf"]),
        ("models/some/where", "", ["llava-hf/llava-1.5-7b-hf"]),
        ("liuhaotian/llava-v1.5-7b", "", ["liuhaotian/llava-v1.5-7b", "openai/clip-vit-large-patch14-336"]),
        ("models/llava", "openai/clip-vit-large-patch14-336", ["liuhaotian/llava-v1.5-7b", "openai/clip"]),
        ("/data/share4v", "", ["Lin-Chen/ShareGPT4V-7B ", "Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336"]),
        ("/data/x", "Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12", ["Lin-Chen/ShareGPT4V-7B "]),
    ],
)
def test_the_way_out_is_the_one_for_the_model_that_is_meant(name, tower, models):
    with pytest.raises(UserError) as error:
        folder_of(name, tower)
    for model in models:
        assert f"hf download {model}" in str(error.value)
    assert ("model.vision_tower=TOWER" in str(error.value)) == (len(models) > 1 or bool(tower))


@pytest.mark.parametrize(
    ("config", "models"),
    [
        ("llava_sare", ["llava-hf/llava-1.5-7b-hf"]),
        (
            "sharegpt4v_sare",
            ["Lin-Chen/ShareGPT4V-7B", "Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12"],
        ),
    ],
)
def test_an_experiment_without_its_weights_lists_what_is_missing(tmp_path, config, models):
    command = [sys.executable, str(ROOT / "main.py"), "--config", str(ROOT / "configs" / f"{config}.py")]
    result = subprocess.run(
        [*command, f"--workdir={tmp_path / 'work'}"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2, result.stderr
    *missing, error = result.stderr.splitlines()
    assert error == f"error: {len(missing)} things are missing, listed above; nothing was done"
    assert all(line.startswith("missing: ") for line in missing), result.stderr
    for model in models:
        assert f"hf download {model} --local-dir" in result.stderr
    assert not (tmp_path / "work").exists()
