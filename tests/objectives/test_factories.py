"""Objectives as values: made once, named by settings, and refused where a setting would do nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

import sare_jax
from sare_jax.config import parse
from sare_jax.errors import UserError
from sare_jax.objectives import OBJECTIVES, Objective
from sare_jax.settings.factories import make

BASE = {"name": "test", "stages": "caption", "model": {"folder": "somewhere"}}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_same_name_and_arguments_give_the_same_hashable_value(name):
    made = make(name, {}, OBJECTIVES, "objective")
    assert isinstance(made, Objective)
    assert made is make(name, {}, OBJECTIVES, "objective")
    assert hash(made) == hash(make(f"sare_jax.objectives.{name}:{name}", {}, OBJECTIVES, "objective"))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"objective": "npo", "objective_args": {"reduction": "div512"}}, "objective_args.reduction: .*beta"),
        (
            {"objective": "unlikelihood", "objective_args": {"reduction": "div512"}},
            "objective_args.reduction: ",
        ),
        (
            {"objective": "nothing"},
            "objective: 'nothing' is not known; give one of ascent, unlikelihood, npo",
        ),
        ({"objective": "npo", "objective_args": {"beta": -1}}, "objective_args.beta: must be above 0"),
        ({"objective": "npo", "objective_args": {"beta": "x"}}, "objective_args.beta: expected float"),
        ({"objective_args": {"reduction": "mean"}}, "objective_args.reduction: 'mean' is not one of"),
        ({"objective": "simpo", "packing": "packed"}, "packing: simpo needs preferred continuations"),
        ({"objective": "dpo", "packing": "packed"}, "packing: dpo needs preferred continuations"),
        ({"objective": "simnpo", "objective_args": {"margin": -1}}, "objective_args.margin: must not be neg"),
        (
            {"objective": "grounded_choice"},
            "samples.kind: grounded_choice is made for choices samples, not for curated; set",
        ),
        (
            {"samples": {"kind": "choices"}},
            "samples.kind: ascent is made for curated samples, not for choices",
        ),
        (
            {"objective": "grounded_choice", "samples": {"kind": "choices"}, "preset": "efuf"},
            "preset: efuf weighs units by their CLIP scores",
        ),
        ({"npo_beta": 0.1}, "npo_beta: is called config.runs.x.objective_args.beta now"),
        ({"sam_norm": "leaf"}, "sam_norm: is called config.runs.x.sam.norm now"),
        ({"learning_rate": 1e-3}, "learning_rate: is called config.runs.x.adamw.learning_rate now"),
        ({"sam": {"steps": 0}}, "sam.steps: must be at least 1"),
        ({"sam": {"between": "lost"}}, "sam.between: 'lost' is not one of"),
        ({"adamw": {"b2": 1.0}}, "adamw.b2: must be"),
        ({"rho": -0.1}, "rho: must be at least 0"),
        ({"micro_batches": 3}, "micro_batches: must divide batch_size 8"),
    ],
)
def test_what_would_do_nothing_or_fail_later_is_one_line_with_its_key(run, message):
    with pytest.raises(UserError, match=rf"^config\.runs\.x\.{message}"):
        parse(BASE | {"runs": {"x": run}})


def test_sections_keep_what_a_run_does_not_say():
    config = parse(BASE | {"optim": {"sam": {"norm": "leaf"}}, "runs": {"x": {"sam": {"steps": 2}}}})
    assert (config.runs["x"].sam.norm, config.runs["x"].sam.steps) == ("leaf", 2)
    config = parse(BASE | {"attacks": {"a": {"adamw": {"learning_rate": 1e-3}}}})
    assert config.attacks["a"].settings.adamw.weight_decay == 0.0, "the attack's own default"


def test_objectives_import_jax_alone():
    code = f"import {', '.join(path.partition(':')[0] for path in OBJECTIVES.values())}; import sys; "
    code += "print(*sorted(sys.modules))"
    root = Path(sare_jax.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    loaded = run.stdout.split()
    assert {name.split(".")[0] for name in loaded}.isdisjoint({"optax", "flax", "grain", "torch"})
    ours = {name for name in loaded if name.startswith("sare_jax.")} - {"sare_jax.lazy"}
    assert all(name.startswith("sare_jax.objectives") for name in ours)
