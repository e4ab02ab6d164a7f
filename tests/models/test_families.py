"""Which family a model belongs to."""

import json

import pytest

from sare_jax.errors import UserError
from sare_jax.models.families import find_family, open_source
from sare_jax.models.llava.family import FAMILY
from sare_jax.settings import ModelConfig
from tests.tiny_original import write_original


@pytest.fixture
def folder(tmp_path):
    def write(**raw):
        (tmp_path / "config.json").write_text(json.dumps(raw))
        return ModelConfig(folder=str(tmp_path))

    return write


@pytest.mark.parametrize(
    "raw", [{"model_type": "llava"}, {"model_type": "llava_llama", "mm_vision_tower": "openai/x"}]
)
def test_config_json_says_it(folder, raw):
    assert find_family(folder(**raw)) is FAMILY


def test_an_unknown_model_type_gets_one_line_that_lists_the_known_ones(folder):
    with pytest.raises(UserError) as error:
        find_family(folder(model_type="blip_2"))
    for part in (
        "config.json: model_type is 'blip_2'",
        "llava (model_type llava",
        "model.family=module:name",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["llava", "sare_jax.models.llava.family:FAMILY"])
def test_a_name_in_the_settings_goes_before_config_json(tmp_path, name):
    assert find_family(ModelConfig(folder=str(tmp_path), family=name)) is FAMILY


def test_a_misspelt_name_is_corrected(tmp_path):
    with pytest.raises(UserError, match=r"config\.model\.family: 'lava' is not known; did you mean llava\?"):
        find_family(ModelConfig(folder=str(tmp_path), family="lava"))


def test_a_published_id_needs_no_file():
    assert find_family(ModelConfig(folder="Lin-Chen/ShareGPT4V-7B")) is FAMILY


def test_settings_reach_the_family_that_opens_the_source(tmp_path):
    write_original(tmp_path / "model", tmp_path / "elsewhere")
    source = open_source(tmp_path / "model", ModelConfig(vision_tower=str(tmp_path / "elsewhere")))
    assert source.family is FAMILY
    assert source.tower == tmp_path / "elsewhere"
