"""A model by folder, by id in the local cache, or not at all."""

import pytest

from sare_jax.errors import UserError
from sare_jax.models import hub

FILES = ("config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json")


def make_files(folder):
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text("{}")
    return folder


def test_a_folder_is_itself(tmp_path):
    folder = make_files(tmp_path / "llava")
    assert hub.resolve_folder(str(folder)) == folder


def test_an_id_is_found_in_the_local_cache(tmp_path, monkeypatch):
    repository = tmp_path / "models--someone--llava"
    snapshot = make_files(repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hub.resolve_folder("someone/llava") == snapshot


def test_an_unknown_id_names_the_files_and_the_way_out():
    with pytest.raises(UserError) as error:
        hub.resolve_folder("nobody-here/no-such-model")
    for word in ("config.json", "model.safetensors", "tokenizer.json", "hf download", "model.folder"):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_model_names_what_is_missing(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        hub.resolve_folder(str(tmp_path))
