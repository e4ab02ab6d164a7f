"""A plan has every program of the chosen stages, each of which can be lowered, and how often it runs."""

import dataclasses

import jax
import pytest

from sare_jax.config import parse
from sare_jax.configs import demo_sare, llava_sare
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.llava.hub import LLAVA
from sare_jax.models.llava.published import config_without_weights
from sare_jax.plan import compiled, sizes
from sare_jax.plan.card_page import way_out
from sare_jax.plan.planned import IMAGES
from sare_jax.plan.programs import programs
from sare_jax.settings import GREEDY
from sare_jax.training.sharding import make_mesh

MESH = make_mesh(1)


@pytest.fixture(scope="module")
def model():
    """LLaVA's form with narrow layers, of which there are two."""
    shapes, _ = config_without_weights(LLAVA)
    text = dataclasses.replace(shapes.text, width=64, mlp=96, num_heads=2, num_kv_heads=2, num_layers=2)
    shapes = dataclasses.replace(shapes, text=dataclasses.replace(text, head_size=32, vocab_size=1000))
    config = parse(llava_sare.get_config().to_dict())
    return compiled.abstract_model(FAMILY, shapes, config.model, MESH)


def planned(model, config):
    return {each.name: each for each in programs(config, model.shape, model, MESH)}


def demo(**changes):
    config = demo_sare.get_config()
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    return parse(config.to_dict())


def test_each_stage_brings_its_programs(model):
    """The demo's config has probes, matched comparisons, the landscape, and a run that asks questions."""
    config = demo()
    by_stage = {}
    for stage in ("caption", "unlearn", "evaluate", "attack", "report"):
        by_stage[stage] = set(planned(model, dataclasses.replace(config, stages=(stage,))))
    assert by_stage["caption"] == {"image features", "captions"}
    assert {"questions of robust", "starting values of robust"} <= by_stage["unlearn"]
    assert {name for name in by_stage["unlearn"] if name.startswith("step of")} == {
        "step of efuf, unlikelihood",
        "step of sare, unlikelihood_sam",
        "step of robust",
    }
    asked = {"image features", "descriptions", "questions of POPE", "openings"}
    assert by_stage["evaluate"] == asked
    assert by_stage["attack"] == asked | {"attacks' step"}
    assert by_stage["report"] == {
        "descriptions",
        "attacks' step",
        "landscape's gradient",
        "landscape's loss",
    }
    for stage in ("prepare", "curate", "export"):
        assert planned(model, dataclasses.replace(config, stages=(stage,))) == {}


def test_every_program_can_be_lowered_from_shapes(model):
    """What is lowered is what a run compiles: the same functions with the same arguments."""
    config = demo(evaluate__benchmarks={"mme": "somewhere"}, masking__steps=3)
    found = planned(model, dataclasses.replace(config, attacks=config.attacks))
    for each in found.values():
        program = each.scale.make(each.scale.candidates[0])
        assert program.lowered.as_text(), each.name
        assert jax.tree.leaves(program.held), each.name
        assert str(each.scale.value) or each.about(each.scale.value)
    assert any("MME" in name for name in found)


def test_questions_are_greedy_and_descriptions_as_configured(model):
    config = llava_sare.get_config()
    config.decoding.num_beams = 5
    with config.unlocked():
        config.attacks.drawn = {"kind": "sampling", "draws": 8}
    made = list(programs(parse(config.to_dict()), model.shape, model, MESH))
    titles = [each.about(each.scale.value) for each in made]
    assert [title for title in titles if "5 beams" in title and "POPE" in title] == []
    assert [title for title in titles if title.startswith("descriptions: batch 16, 16 a device, 5 beams")]
    [drawn] = [each for each in made if "drawn at temperature 1" in each.about(16)]
    assert drawn.times(16) == {"attack": 3 * 8 * 1600 / 16}
    assert drawn.beams is None
    searching = {each.name for each in made if each.beams}
    assert searching == {"captions", "descriptions"}
    beams = next(each for each in made if each.name == "captions").beams(16)
    assert beams.value == 5
    assert "num_beams" in beams.key


def test_sizes_that_are_auto_are_marked_and_searched_from_the_default(model):
    config = llava_sare.get_config("robust")
    config.caption.batch_size = "auto"
    config.runs.robust.micro_batches = "auto"
    found = planned(model, parse(config.to_dict()))
    auto = {name for name, each in found.items() if each.scale.is_auto}
    assert auto == {"captions", "step of robust"}
    captions, robust = found["captions"], found["step of robust"]
    assert captions.scale.value == 16
    assert captions.times(100) == {"caption": IMAGES / 100}
    assert list(robust.scale.candidates) == [32, 16, 8, 4, 2, 1]
    assert "in 8 parts, 4 a device at a time" in robust.about(8)
    # 80,000 captions, a third as many answers, three quarters of a pass, 32 at a time
    assert robust.times(8) == {"unlearn": 2500.0}


def test_an_attack_with_a_program_of_its_own_is_planned_by_the_rows_that_it_runs_at_once(model):
    config = llava_sare.get_config("lora")
    known = planned(model, parse(config.to_dict()))["attack lora"]
    assert "batch 128 in 32 parts" in known.about(4)
    assert "batch 128 in 4 parts" in known.about(32)
    assert (known.scale.value, known.scale.candidates, known.scale.is_auto) == (4, range(1, 129), False)
    assert known.times(4) == {"attack": 3 * 79}
    with config.unlocked():
        config.attacks.lora.rows_at_once = "auto"
    found = planned(model, parse(config.to_dict()))["attack lora"]
    assert (found.scale.value, found.scale.is_auto) == (4, True)


def test_what_to_set_where_a_program_does_not_fit(model):
    config = llava_sare.get_config("lora")
    config.report.landscape_images = 60
    config.evaluate.batch_size = "auto"
    found = planned(model, parse(config.to_dict()))
    said = {name: way_out(each, each.scale.value) for name, each in found.items()}
    assert said["captions"] == "config.caption.batch_size (now 16: captions; auto finds what fits)"
    assert said["step of sare"] == (
        "config.optim.batch_size (now 8: step of sare), or raise config.runs.sare.micro_batches"
    )
    assert said["attack lora"].startswith("config.attacks.lora.rows_at_once (now 4: attack lora;")
    assert said["descriptions"] == "descriptions takes its least already (config.evaluate.batch_size)"
    assert said["landscape's gradient"] == "config.report.landscape_images=0 leaves the landscape out"
    assert said["image features"] == "image features takes its least already"


def test_sizes_that_are_auto_count_as_the_default_or_the_least(model):
    config = llava_sare.get_config()
    for section, name in (("caption", "batch_size"), ("evaluate", "question_batch_size")):
        config[section][name] = "auto"
    config.optim.micro_batches = "auto"
    config = parse(config.to_dict())
    usual, least = sizes.usual(config), sizes.least(config)
    assert (usual.caption.batch_size, usual.evaluate.question_batch_size) == (16, 64)
    assert (least.caption.batch_size, least.evaluate.question_batch_size) == (1, 1)
    assert (usual.runs["sare"].micro_batches, least.runs["sare"].micro_batches) == (1, 8)
    assert least.evaluate.batch_size == config.evaluate.batch_size == 16
    assert config.decoding == GREEDY
