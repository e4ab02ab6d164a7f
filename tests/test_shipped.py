"""What comes with the package is found from whatever folder a command is started in."""

from pathlib import Path

import pytest

from sare_jax import shipped
from sare_jax.command import with_config_file
from sare_jax.settings import ModelConfig

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("named", ["llava_sare", "llava_sare.py", "configs/llava_sare.py"])
def test_an_experiment_is_found_by_its_name(named):
    assert shipped.config_file(named) == f"{shipped.CONFIGS}/llava_sare.py"
    assert shipped.config_file(f"{named}:robust") == f"{shipped.CONFIGS}/llava_sare.py:robust"


def test_a_file_that_is_there_comes_first(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "llava_sare.py").write_text("")
    assert shipped.config_file("configs/llava_sare.py:x") == "configs/llava_sare.py:x"
    assert shipped.config_file("llava_sare") != "llava_sare"


@pytest.mark.parametrize(
    "named", ["none", "mine/llava_sare.py", "common", "/llava_sare.py", "../llava_sare.py"]
)
def test_any_other_name_stays(named):
    assert shipped.config_file(named) == named


@pytest.mark.parametrize(
    "arguments",
    [["--config=demo_sare:short"], ["--config", "demo_sare:short"], ["-config", "demo_sare:short"]],
)
def test_the_command_line_names_experiments(arguments):
    *_, last = with_config_file(["main.py", *arguments])
    assert last.endswith(f"{shipped.CONFIGS}/demo_sare.py:short")
    others = ["main.py", "--config.name=demo_sare", "--workdir", "demo_sare", "--config"]
    assert with_config_file(others) == others


def test_what_the_demo_names_lies_in_the_package(tmp_path):
    from sare_jax.configs.demo_sare import get_config
    from sare_jax.curation.clip import ClipConfig, clip_id
    from sare_jax.models.families import model_folder, open_source

    config = get_config()
    folder = model_folder(ModelConfig(folder=config.model.folder))
    assert folder == ROOT / "sare_jax" / "demo" / "weights" / "llava"
    assert open_source(folder).family.name == "llava"
    assert clip_id(ClipConfig(model=config.curate.clip)) == "local-dir:clip"
    assert (shipped.located(config.evaluate.options.perplexity.lm) / "model.safetensors").is_file()
    assert shipped.located(config.report.selection).is_file()
    (tmp_path / config.model.folder).mkdir(parents=True)
    assert not shipped.located(config.model.folder).is_absolute()  # what is there comes first
