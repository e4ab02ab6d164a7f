"""The attacks that the demo does not run, through the stage: asked, measured, recorded."""

import json
from pathlib import Path

import pytest

from sare_jax import files, stages
from sare_jax.config import parse
from sare_jax.configs import demo_sare
from sare_jax.training.checkpoints import saved_shapes

ROOT = Path(__file__).resolve().parents[2]
IMAGES, DRAWS, SCENES = 3, 4, 4


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Path:
    """A workdir with one run, two attacks and the control against masking."""
    config = demo_sare.get_config("short")
    config.unlock()
    config.stages = "prepare,caption,curate,unlearn,evaluate,attack"
    config.data.prepare_args.update({"train": 48, "val": 4, "test": 4, "lessons": SCENES})
    config.model.folder = str(ROOT / config.model.folder)
    config.model.data_parallel = 1
    config.curate.clip = config.curate.clip.replace("local-dir:", f"local-dir:{ROOT}/")
    config.optim.steps = 2
    config.optim.checkpoint_every = 0
    config.evaluate.update({"max_images": IMAGES, "metrics": "chair,lengths", "bootstrap": 20})
    config.runs = {"efuf": {"rho": 0.0}}
    config.attack = {}
    config.attacks = {
        "worst": {"kind": "sampling", "draws": DRAWS, "temperature": 1.5},
        "int3": {"kind": "rounding", "bits": 3},
        "lora": {
            "kind": "lora",
            "runs": "efuf",
            "conversations": "lessons.json",
            "images": "lessons",
            "num_rows": 0,
            "rank": 4,
            "alpha": 8.0,
            "learning_rate": 5e-3,
            "warmup": 0.0,
            "batch_rows": 8,
            "rows_at_once": 8,
        },
    }
    config.masking.update({"steps": 2})
    config.report.matched = False
    config.export.run = "efuf"
    workdir = tmp_path_factory.mktemp("attack") / "run"
    stages.run(parse(config.to_dict()), workdir)
    return workdir


@pytest.mark.parametrize("run", ["base", "efuf"])
def test_all_draws_are_kept_and_the_worst_measured(road, run):
    answers = files.read_jsonl(road / "answers" / run / "worst" / "captions.jsonl")
    texts: dict[int, list[str]] = {}
    for answer in answers:
        texts.setdefault(answer["image_id"], []).append(answer["text"])
    assert [len(several) for several in texts.values()] == [DRAWS] * IMAGES
    assert all(len(set(several)) > 1 for several in texts.values())
    found = json.loads((road / "metrics" / run / "worst.json").read_text())
    assert found["n"] == found["chair"]["n"] == IMAGES
    assert found["worst"]["draws"] == DRAWS
    assert "any caption invents" in found["worst"]["rule"]
    assert found["chair"]["chair_s"] >= found["worst"]["hallucinated_draws"]
    assert "worst" not in json.loads((road / "metrics" / run / "origin.json").read_text())


@pytest.mark.parametrize("run", ["base", "efuf"])
def test_rounded_weights_are_asked_and_recorded(road, run):
    record = json.loads((road / "attacks" / run / "int3.json").read_text())
    assert (record["run"], record["attack"], record["kind"], record["bits"]) == (run, "int3", "rounding", 3)
    assert record["rounded"] > 0
    assert (record["tuned"] > 0) == (run == "efuf")
    found = json.loads((road / "metrics" / run / "int3.json").read_text())
    before = json.loads((road / "metrics" / run / "origin.json").read_text())
    assert found["provenance"]["params"] != before["provenance"].get("params")


@pytest.mark.parametrize("run", ["base", "efuf"])
def test_the_speed_of_learning_something_harmless_is_told(road, run):
    found = json.loads((road / "masking" / f"{run}.json").read_text())
    assert found["run"] == run
    assert len(found["loss"]) == found["steps"] == 2


def test_adapters_are_trained_kept_and_asked(road):
    record = json.loads((road / "attacks" / "efuf" / "lora.json").read_text())
    assert (record["kind"], record["rows"], record["steps"]) == ("lora", 6 * SCENES, 3)
    assert record["adapters"]["l2"] > 0
    shapes = saved_shapes(road / "checkpoints" / "efuf+lora", 0)
    before = saved_shapes(road / "checkpoints" / "efuf", 2)
    assert {path: shape for path, shape in shapes.items() if "/lora/" not in path} == before
    assert sum(path.endswith("/lora/a") for path in shapes) == 7
    texts = {
        name: [one["text"] for one in files.read_jsonl(road / "answers" / "efuf" / name / "captions.jsonl")]
        for name in ("origin", "lora")
    }
    assert texts["lora"] != texts["origin"]
    moved = json.loads((road / "probes" / "efuf" / "lora.json").read_text())["displacement"]["by_attack"]
    assert moved["l2"] > 0
    assert not (road / "attacks" / "base" / "lora.json").exists()


def test_nothing_is_kept_of_an_attack_that_only_asks(road):
    assert not (road / "attacks" / "efuf" / "worst.json").exists()
    assert not (road / "checkpoints" / "efuf+worst").exists()
