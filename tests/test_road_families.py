"""The whole road for mPLUG-Owl, both forms of MiniGPT-4 and the Qwen-VLs, from published layouts to a table.

The models are tiny and random, so what they say means nothing; but it names objects, since
generation_config.json suppresses every other word, and so there is something to curate and to unlearn.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from ml_collections import ConfigDict

from sare_jax import files, stages
from sare_jax.config import parse
from sare_jax.configs import (
    minigpt4_sare,
    minigpt4_vicuna_sare,
    mplug_owl_sare,
    qwen2_5_vl_sare,
    qwen3_vl_sare,
)
from sare_jax.configs.common import base_config
from sare_jax.models.families import model_folder, open_source
from sare_jax.models.minigpt4.export import TORCH_FILE
from sare_jax.models.shared.generation import FILE as GENERATION
from sare_jax.settings import ModelConfig
from sare_jax.settings.road import Config
from tests.artifacts import artifacts
from tests.models.minigpt4.tiny import write_minigpt4
from tests.models.qwen import tiny
from tests.tiny_owl import write_owl
from tests.tiny_sentencepiece import LINES, write_sentencepiece

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "sare_jax" / "demo" / "weights"
RUNS = ("sare",)  # the other methods are no other road for a family


@dataclass(frozen=True)
class Form:
    """A family, or one form of it.

    Attributes:
      settings: the config that it is shipped with.
      write: makes a tiny model in a folder and says how it is opened.
      tuned: what the names of the tuned tensors begin with.
      weights: the exported file of them.
      say_words: (the language model's folder) has the model say `WORDS` alone.
    """

    settings: Callable[[], ConfigDict]
    write: Callable[[Path], ModelConfig]
    tuned: tuple[str, ...]
    weights: str
    say_words: Callable[[Path], None]


def owl(folder: Path) -> ModelConfig:
    write_owl(folder)
    return ModelConfig(folder=str(folder))


def qwen3(folder: Path) -> ModelConfig:
    tiny.write_qwen3(folder)
    return ModelConfig(folder=str(folder), family="qwen3_vl")


def qwen2_5(folder: Path) -> ModelConfig:
    tiny.write_qwen2_5(folder)
    return ModelConfig(folder=str(folder), family="qwen2_5_vl")


def write_words(folder: Path) -> None:
    """A tokenizer with whole words, and the rule that these alone are said."""
    objects = " ".join(f"{word}, {word}." for word in tiny.WORDS)
    reader = write_sentencepiece(folder / "tokenizer.model", [*LINES, *[objects] * 9])
    said = {reader.piece_to_id(piece) for piece in (*(f"▁{word}" for word in tiny.WORDS), ",", ".", "</s>")}
    assert reader.unk_id() not in said
    path = folder / GENERATION
    rules = json.loads(path.read_text()) if path.is_file() else {}
    rules["suppress_tokens"] = sorted(set(range(reader.get_piece_size())) - said)
    path.write_text(json.dumps(rules))


FORMS = {
    "mplug_owl": Form(
        mplug_owl_sare.get_config, owl, ("query_tokens", "abstractor."), "pytorch_model.bin", write_words
    ),
    "llama2": Form(
        minigpt4_sare.get_config,
        lambda folder: write_minigpt4(folder, "llama2").settings,
        ("llama_proj.",),
        TORCH_FILE,
        write_words,
    ),
    "vicuna": Form(
        minigpt4_vicuna_sare.get_config,
        lambda folder: write_minigpt4(folder, "vicuna").settings,
        ("llama_proj.",),
        TORCH_FILE,
        write_words,
    ),
    "qwen3_vl": Form(
        qwen3_vl_sare.get_config,
        qwen3,
        ("model.visual.merger.",),
        "model.safetensors",
        tiny.suppress_all_but_words,
    ),
    "qwen2_5_vl": Form(
        qwen2_5_vl_sare.get_config,
        qwen2_5,
        ("model.visual.merger.",),
        "model.safetensors",
        tiny.suppress_all_but_words,
    ),
}


def settings(form: Form, model: ModelConfig) -> Config:
    """The shipped config on the drawn world, at the smallest size."""
    config = form.settings()
    config.unlock()
    config.data = base_config("tiny").data
    config.data.update({"prepare": "sare_jax.demo.world:build", "split": "files"})
    config.data.prepare_args = ConfigDict({"train": 32, "val": 6, "test": 8, "seed": 0})
    config.model.update({"folder": model.folder, "files": dict(model.files), "family": model.family})
    config.model.image_mode = "auto"
    config.model.update({"dtype": "float32", "remat": "none", "data_parallel": 1})
    config.caption.max_new_tokens = 32
    config.decoding.temperature = 1.0  # the likeliest token of a random model is soon the same again
    config.curate.update({"clip": f"local-dir:{DEMO}/clip", "clip_pretrained": "", "patch": 16})
    config.curate.update({"window": 4, "top_patches": 4})
    config.curate.thresholds.update({"kind": "quantile", "q1": 0.2})
    config.optim.update({"steps": 2, "batch_size": 4})
    config.optim.adamw.learning_rate = 1e-2
    config.evaluate.update({"max_images": 4, "max_new_tokens": 24, "bootstrap": 20})
    config.evaluate.metrics = "chair,pope,bleu,perplexity,lengths"
    config.evaluate.options.pope.images = 2
    config.evaluate.options.perplexity.lm = str(DEMO / "lm")
    config.attack.adamw.learning_rate = 1e-2
    config.attacks = {"relearn_8": {"num_samples": 8}, "adversarial": {"kind": "prompt"}}
    config.export.update({"run": "sare", "check_captions": 0})
    config.report.update({"landscape_images": 0, "matched": False, "gallery": 1, "baseline": "sare"})
    del config.runs["efuf"]
    config.report.matched_attack = "relearn_8"
    return parse(config.to_dict())


@pytest.fixture(scope="module", params=FORMS)
def road(request, tmp_path_factory) -> tuple[Form, ModelConfig, Path]:
    """A form, its model, and a workdir in which every stage has run."""
    root, form = tmp_path_factory.mktemp(request.param), FORMS[request.param]
    model = form.write(root / "model")
    form.say_words(Path(model.folder))
    stages.run(settings(form, model), root / "run")
    return form, model, root / "run"


def test_the_captions_are_curated_into_all_three_sets(road):
    _, _, workdir = road
    captions = {record["caption"] for record in files.read_jsonl(workdir / "captions" / "captions.jsonl")}
    assert len(captions) > 16
    for kind in ("neg", "pos", "sent"):
        with np.load(workdir / "curated" / f"{kind}.npz") as arrays:
            assert len(arrays["row"]) > 0


def test_every_run_is_measured_before_and_after_each_attack(road):
    _, _, workdir = road
    params = {}
    for run in ("base", *RUNS):
        for setting in ("origin", "relearn_8", "adversarial"):
            row = json.loads((workdir / "metrics" / run / f"{setting}.json").read_text())
            assert row["chair"]["n"] == 4
            assert row["pope"]["random"]["n"] == 12
            assert row["perplexity"]["n"] + row["chair"]["empty_rate"] * 4 == 4
            params[run, setting] = row["provenance"].get("params")
    for run in ("base", *RUNS):
        assert params[run, "adversarial"] == params[run, "origin"]
    trained = {params[key] for key in params if key[1] != "adversarial" and key != ("base", "origin")}
    assert len(trained) == 3  # unlearned, and relearned, weights are all others
    assert None not in trained


def test_the_report_has_the_table(road):
    _, _, workdir = road
    lines = (workdir / "report.md").read_text().splitlines()
    for run in ("base model", "SARE"):
        for setting in ("origin", "relearn 8", "adversarial prompt"):
            cells = next(line for line in lines if line.startswith(f"| {run} | {setting} |")).split("|")
            assert sum(any(map(str.isdigit, cell)) for cell in cells[3:]) >= 9


def test_the_export_is_read_in_the_base_models_place_and_only_tuned_tensors_differ(road):
    form, model, workdir = road
    folder = workdir / "export" / "sare"
    if model.files:
        exported = dataclasses.replace(
            model, files=dict(model.files) | {"pretrained": str(folder / form.weights)}
        )
    else:
        exported = dataclasses.replace(model, folder=str(folder))
    base, tuned = (open_source(model_folder(each), each).tensors for each in (model, exported))
    assert base.keys() == tuned.keys()
    different = {name for name in base if not np.array_equal(base[name].map(), tuned[name].map())}
    assert different
    assert all(name.startswith(form.tuned) for name in different)
    assert (folder / form.weights).is_file()
    if form.weights.endswith((".bin", ".pth")):
        torch.load(folder / form.weights, weights_only=True)


def test_a_second_run_finds_everything_up_to_date(road):
    form, model, workdir = road
    before = artifacts(workdir)
    assert stages.run(settings(form, model), workdir).executed == []
    assert artifacts(workdir) == before
