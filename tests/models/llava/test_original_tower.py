"""Where the vision tower of an original checkpoint is looked for, and which is not taken."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sare_jax.errors import UserError
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model
from tests.tiny_llava import write_llava
from tests.tiny_original import (
    INSIDE,
    SHARE_TOWER_NAME,
    TOWER_NAME,
    edit,
    edit_config,
    save,
    tower_tensors,
    write_original,
    write_sharegpt4v,
)

MODEL, TOWER = "llava", TOWER_NAME


@pytest.fixture
def folder(tmp_path):
    """An original LLaVA whose files a test may change, its tower beside it."""
    write_original(tmp_path / MODEL, tmp_path / TOWER)
    return tmp_path / MODEL


def test_ex_06_a_tower_inside_the_checkpoint_wins(tmp_path):
    write_original(tmp_path / MODEL, tmp_path / TOWER, inside="tower")
    changed = torch.full((32, 32), 0.25)
    name = "vision_model.encoder.layers.1.self_attn.q_proj.weight"
    edit(tmp_path / MODEL / "pytorch_model.bin", lambda tensors: tensors.update({f"{INSIDE}{name}": changed}))
    theirs = write_original(tmp_path / "stock", tmp_path / "stock_tower")
    save(tmp_path / TOWER / "pytorch_model.bin", tower_tensors(theirs))
    source = open_llava(tmp_path / MODEL)
    loaded = load_model(source, dtype=jnp.float32)
    np.testing.assert_array_equal(loaded.frozen["vision_tower"]["layers"]["q"]["kernel"][1], changed)
    assert {tensor.file.parent for tensor in source.tensors.values()} == {tmp_path / MODEL}


def test_a_tower_inside_in_part_is_not_filled_up_from_outside(tmp_path):
    theirs = write_original(tmp_path / MODEL, tmp_path / TOWER, inside="tower")
    save(tmp_path / TOWER / "pytorch_model.bin", tower_tensors(theirs))
    missing = f"{INSIDE}vision_model.embeddings.class_embedding"
    edit(tmp_path / MODEL / "pytorch_model.bin", lambda tensors: tensors.pop(missing))
    with pytest.raises(UserError, match=f"missing: {missing}$"):
        load_model(tmp_path / MODEL, dtype=jnp.float32)


class TestTower:
    """Where the tower is looked for, and which is not taken."""

    def test_beside_the_model(self, folder, tmp_path):
        edit_config(folder, mm_vision_tower=f"../{TOWER}")
        assert open_llava(folder).processor_folder.resolve() == tmp_path / TOWER

    def test_as_the_settings_say(self, folder, tmp_path):
        shutil.copytree(tmp_path / TOWER, tmp_path / "elsewhere")
        assert open_llava(folder, str(tmp_path / "elsewhere")).tower == tmp_path / "elsewhere"

    def test_in_the_hubs_local_cache(self, folder, tmp_path, monkeypatch):
        edit_config(folder, mm_vision_tower="openai/clip-vit-large-patch14-336")
        repository = tmp_path / "cache" / "models--openai--clip-vit-large-patch14-336"
        shutil.copytree(tmp_path / TOWER, repository / "snapshots" / ("b" * 40))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("b" * 40)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        assert open_llava(folder).tower == repository / "snapshots" / ("b" * 40)

    @pytest.mark.parametrize("name", ["openai/clip-vit-large-patch14-336", "/nowhere/clip"])
    def test_nowhere(self, folder, name):
        edit_config(folder, mm_vision_tower=name)
        with pytest.raises(UserError) as error:
            open_llava(folder)
        for part in (name, "hf download", "--local-dir TOWER", "--config.model.vision_tower=TOWER"):
            assert part in str(error.value)

    def test_without_its_processor(self, folder, tmp_path):
        (tmp_path / TOWER / "preprocessor_config.json").unlink()
        with pytest.raises(UserError, match=r"did not find preprocessor_config\.json.*vision_tower=TOWER"):
            open_llava(folder)

    def test_is_not_taken_for_the_hubs_form(self, tmp_path):
        write_llava(tmp_path / "hub")
        with pytest.raises(UserError, match="holds its own vision tower"):
            open_llava(tmp_path / "hub", "openai/clip-vit-large-patch14-336")

    def test_config_names_none(self, folder):
        edit_config(folder, mm_vision_tower=None)
        with pytest.raises(UserError, match="no mm_vision_tower"):
            open_llava(folder)


class TestShareGPT4V:
    """Its tower is its own tuned one; OpenAI's CLIP has the same shape and would load without a word."""

    @pytest.fixture
    def share(self, tmp_path):
        write_sharegpt4v(tmp_path / "ShareGPT4V-7B", tmp_path / SHARE_TOWER_NAME)
        return tmp_path / "ShareGPT4V-7B"

    @pytest.mark.parametrize("place", ["openai/clip-vit-large-patch14-336", "clip-vit-large-patch14-336"])
    def test_openais_tower_by_its_folder(self, share, tmp_path, place):
        shutil.copytree(tmp_path / SHARE_TOWER_NAME, tmp_path / place)
        with pytest.raises(UserError, match=r"needs its own tuned vision tower.*hf download Lin-Chen"):
            open_llava(share, str(tmp_path / place))

    def test_openais_tower_by_its_config(self, share, tmp_path):
        edit_config(tmp_path / SHARE_TOWER_NAME, _name_or_path="openai/clip-vit-large-patch14-336")
        with pytest.raises(UserError, match="needs its own tuned vision tower"):
            open_llava(share)

    def test_also_where_the_config_was_renamed_for_llavas_code(self, share, tmp_path):
        shutil.copytree(tmp_path / SHARE_TOWER_NAME, tmp_path / "clip-vit-large-patch14-336")
        edit_config(share, model_type="llava", architectures=["LlavaLlamaForCausalLM"])
        share.rename(tmp_path / "renamed")
        with pytest.raises(UserError, match="needs its own tuned vision tower"):
            open_llava(tmp_path / "renamed", str(tmp_path / "clip-vit-large-patch14-336"))

    def test_no_tower_is_no_reason_to_take_another(self, share, tmp_path):
        shutil.rmtree(tmp_path / SHARE_TOWER_NAME)
        with pytest.raises(UserError, match=SHARE_TOWER_NAME):
            open_llava(share)
