"""Every shipped config, in every variant, is one that the program takes."""

import importlib

import pytest

from sare_jax.config import parse
from sare_jax.models.families import find_family

LARGE = ("llava_sare", "sharegpt4v_sare", "mplug_owl_sare", "minigpt4_sare", "minigpt4_vicuna_sare")
CONFIGS = [
    *((name, variant) for name in LARGE for variant in ("paper", "robust")),
    ("mplug_owl_sare", "lineage"),
    ("minigpt4_sare", "lineage"),
    ("demo_sare", "full"),
    ("demo_sare", "short"),
    ("demo_frontier", "full"),
    ("demo_frontier", "short"),
    ("demo_attacks", "stronger"),
    ("demo_attacks", "grid"),
    *(("demo_sweep", part) for part in ("attack", "search", "seeds", "rho")),
]


@pytest.mark.parametrize("name", CONFIGS, ids=":".join)
def test_it_is_parsed_and_its_model_is_of_a_known_shape(name):
    module, *variant = name
    config = parse(importlib.import_module(f"configs.{module}").get_config(*variant).to_dict())
    family = find_family(config.model)
    shape = family.shape(family.config_of(config.model)[0])
    assert 0 < shape.num_image_tokens < 1024
    assert set(config.runs) >= {"efuf", "sare"} or module in ("demo_sweep", "demo_frontier")
    assert config.export.form in family.exports


@pytest.mark.parametrize("name", LARGE)
def test_robust_is_trained_where_it_is_asked_for(name):
    module = importlib.import_module(f"configs.{name}")
    assert set(parse(module.get_config().to_dict()).runs) == {"efuf", "sare"}
    config = parse(module.get_config("robust").to_dict())
    robust = config.runs["robust"]
    assert robust.samples.questions == 20
    assert robust.adamw.learning_rate == 2.5 * config.runs["sare"].adamw.learning_rate
    with pytest.raises(ValueError, match=f"{name}.py:other: the variants are paper"):
        module.get_config("other")
