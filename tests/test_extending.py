"""What the house promises to people outside of it: each addition is one file and a name in the config.

A family, an objective that needs the starting weights' distributions, an attack, a metric and a benchmark,
none of them in the package, go through every stage of the road.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from sare_jax import files, stages
from sare_jax.config import parse
from sare_jax.configs import demo_sare
from sare_jax.demo.render import render
from sare_jax.demo.scenes import sample_scene
from sare_jax.settings.road import Config
from tests.extending.toy_benchmark import FILE
from tests.extending.toy_family import write_toy

ROOT = Path(__file__).resolve().parents[1]
LLAVA = ROOT / "sare_jax" / "demo" / "weights" / "llava"
OUTSIDE = "tests.extending"
RUN, ATTACK = "flatten", "noise"


def settings(model: Path) -> Config:
    """The short demo, smaller still, with everything that can be named from outside."""
    config = demo_sare.get_config("short")
    config.unlock()
    config.data.prepare_args.update({"train": 64, "val": 8, "test": 8})
    config.model.folder = str(model)
    config.model.family = f"{OUTSIDE}.toy_family:FAMILY"
    config.model.data_parallel = 1
    config.caption.max_new_tokens = 48
    config.curate.clip = config.curate.clip.replace("local-dir:", f"local-dir:{ROOT}/")
    config.optim.steps = 3
    config.evaluate.update({"max_images": 4, "max_new_tokens": 24, "bootstrap": 20})
    config.evaluate.metrics = f"chair,pope,lengths,{OUTSIDE}.toy_metric:METRIC"
    config.evaluate.options.pope.images = 2
    config.evaluate.benchmarks[f"{OUTSIDE}.toy_benchmark:BENCHMARK"] = str(model.parent / "pictures")
    config.runs = {
        RUN: {
            "label": "flattened",
            "objective": f"{OUTSIDE}.toy_objective:flatten",
            "objective_args": {"strength": 0.5},
        }
    }
    config.attack = {}  # what relearning attacks share
    config.attacks = {ATTACK: {"kind": f"{OUTSIDE}.toy_attack:ATTACK", "length": 0.25}}
    config.export.update({"run": RUN, "form": "tensors", "check_captions": 0})
    config.report.update(
        {"baseline": RUN, "ours": RUN, "landscape_images": 0, "matched": False, "gallery": 1, "selection": ""}
    )
    return parse(config.to_dict())


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Path:
    """A workdir in which every stage has run."""
    root = tmp_path_factory.mktemp("extending")
    write_toy(root / "model", LLAVA)
    write_pictures(root / "pictures")
    stages.run(settings(root / "model"), root / "run")
    return root / "run"


def write_pictures(folder: Path) -> None:
    """Three questions about two drawn scenes, for the toy benchmark."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        render(sample_scene(rng), rng).save(folder / "images" / name)
    asked = [
        ("a.png", "Is there a dog?", "no"),
        ("b.png", "Is there a cup?", "yes"),
        ("b.png", "Is it day?", "yes"),
    ]
    keys = ("id", "image", "question", "label")
    records = [dict(zip(keys, (number, *line), strict=True)) for number, line in enumerate(asked)]
    files.write_jsonl(folder / FILE, records)


def test_the_family_captions_images_of_different_sizes_and_is_exported(road):
    captions = files.read_jsonl(road / "captions" / "captions.jsonl")
    assert len({record["caption"] for record in captions}) > 1
    exported = load_file(road / "export" / RUN / "cells")
    base = load_file(road.parent / "model" / "model.safetensors")
    assert sorted(exported) == ["cells.b", "cells.w"]
    assert (exported["cells.w"] != base["cells.w"]).any()


def test_the_objective_is_trained_with_its_distributions(road):
    log = files.read_jsonl(road / "logs" / f"{RUN}.jsonl")
    assert [record["step"] for record in log] == [1, 2, 3]
    # Negentropy is below 0, and the divergence from the starting weights begins at 0 beside L_ft.
    assert log[0]["neg"] < 0
    assert log[0]["eps_norm"] > 0


def test_the_attack_makes_weights_of_its_own_and_is_measured(road):
    before, after = (
        json.loads((road / "metrics" / RUN / f"{name}.json").read_text()) for name in ("origin", ATTACK)
    )
    assert before["provenance"]["params"] != after["provenance"]["params"]


def test_the_base_model_is_attacked_too(road):
    before, after = (
        json.loads((road / "metrics" / "base" / f"{name}.json").read_text()) for name in ("origin", ATTACK)
    )
    assert "params" not in before["provenance"]
    assert after["provenance"]["base"]
    assert after["provenance"]["attack"] == ATTACK
    assert after["provenance"]["params"]


def test_the_metric_is_measured_and_has_its_column(road):
    metrics = json.loads((road / "metrics" / RUN / "origin.json").read_text())
    assert metrics["variety"]["mean"] > 1
    assert "different words" in (road / "report.md").read_text()


def test_the_benchmark_is_asked_and_has_its_column(road):
    answers = files.read_jsonl(road / "benchmarks" / RUN / "origin" / "pictures.jsonl")
    assert answers[0]["instruction"] == "Is there a dog? Answer yes or no."
    result = json.loads((road / "metrics" / RUN / "origin.json").read_text())["benchmarks"]["pictures"]
    assert (result["n"], result["rule"]) == (3, "the answer's first word")
    assert "Pictures" in (road / "report.md").read_text()


def test_a_second_run_finds_everything_up_to_date(road):
    assert stages.run(settings(road.parent / "model"), road).executed == []
