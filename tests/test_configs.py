"""Every shipped config, in every variant, is one that the program takes."""

import importlib

import pytest

from sare_jax.config import parse
from sare_jax.configs import minigpt4_sare, mplug_owl_sare
from sare_jax.errors import UserError
from sare_jax.models.families import find_family, model_folder

LARGE = (
    *("llava_sare", "sharegpt4v_sare", "mplug_owl_sare", "minigpt4_sare", "minigpt4_vicuna_sare"),
    *("qwen3_vl_sare", "qwen2_5_vl_sare"),
)
SWEEPS = ("demo_sweep", "demo_frontier")  # their runs are named by method and setting
CONFIGS = [
    *((name, variant) for name in LARGE for variant in ("paper", "robust", "lora")),
    ("mplug_owl_sare", "lineage"),
    ("minigpt4_sare", "lineage"),
    ("demo_sare", "full"),
    ("demo_sare", "short"),
    ("demo_frontier", "full"),
    ("demo_frontier", "short"),
    ("demo_frontier", "base"),
    ("demo_baselines", "full"),
    ("demo_baselines", "search"),
    ("demo_attacks", "stronger"),
    ("demo_attacks", "grid"),
    *(("demo_sweep", part) for part in ("attack", "search", "seeds", "rho")),
]


@pytest.mark.parametrize("name", CONFIGS, ids=":".join)
def test_it_is_parsed_and_its_model_is_of_a_known_shape(name):
    module, *variant = name
    config = parse(importlib.import_module(f"sare_jax.configs.{module}").get_config(*variant).to_dict())
    family = find_family(config.model)
    shape = family.shape(family.config_of(config.model)[0])
    assert 0 < shape.num_image_tokens < 1024
    assert set(config.runs) >= {"efuf", "sare"} or variant == ["search"] or module in SWEEPS
    assert config.export.form in family.exports


@pytest.mark.parametrize("name", LARGE)
def test_robust_is_trained_where_it_is_asked_for(name):
    module = importlib.import_module(f"sare_jax.configs.{name}")
    assert set(parse(module.get_config().to_dict()).runs) == {"efuf", "sare"}
    config = parse(module.get_config("robust").to_dict())
    robust = config.runs["robust"]
    assert robust.samples.questions == 20
    assert robust.adamw.learning_rate == 2.5 * config.runs["sare"].adamw.learning_rate
    with pytest.raises(ValueError, match=f"{name}.py:other: the variants are paper"):
        module.get_config("other")


@pytest.mark.parametrize(
    ("module", "reduction", "dropout", "template"),
    [(mplug_owl_sare, "div512", 0.1, "owl_roles_apart"), (minigpt4_sare, "seq_mean_padded", 0.0, "")],
)
def test_the_lineage_trains_as_efuf_does_and_the_paper_does_not(module, reduction, dropout, template):
    """docs/protocols.md 1.6 and 7.3."""
    paper, lineage = (parse(module.get_config(variant).to_dict()) for variant in ("paper", "lineage"))
    assert (lineage.optim.objective_args, lineage.optim.preset) == ({"reduction": reduction}, "efuf")
    assert (lineage.optim.dropout, lineage.model.template) == (dropout, template)
    assert (paper.optim.objective_args, paper.optim.preset) == ({}, "paper")
    assert (paper.optim.dropout, paper.model.template) == (0.0, "")


def test_a_folder_that_is_not_there_is_missed_as_an_mplug_owl(tmp_path):
    config = mplug_owl_sare.get_config()
    config.model.folder = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"tokenizer\.model\. Get it with: hf download MAGAer13"):
        model_folder(parse(config.to_dict()).model)
