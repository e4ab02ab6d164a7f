"""The tiny road with int8 kernels: trained, attacked, exported; kept apart from other precisions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sare_jax import files, stages
from sare_jax.configs import demo_attacks
from sare_jax.models.families import open_source
from sare_jax.settings.road import Config
from sare_jax.training import unlearn
from tests.test_road import break_off, tiny

pytestmark = pytest.mark.optimised
ATTACKS = {
    "relearn_8": {"num_samples": 8},
    "rounding_4": {"kind": "rounding", "bits": 4},
    "lora": {**demo_attacks.LORA, "num_rows": 8, "batch_rows": 4, "rows_at_once": 4, "rank": 4},
}


def settings(**changes) -> Config:
    """The tiny road's settings with int8 kernels, two runs, and every attack on weights."""
    return tiny(
        **{
            "model__quantization": "int8",
            "data__prepare_args__lessons": 8,
            "runs": {
                "sare": {"rho": 0.05, "neg_weight": 0.2},
                "npo": {"objective": "npo", "rho": 0.0, "neg_weight": 0.2},
            },
            "attacks": ATTACKS,
            "evaluate__max_images": 4,
            "evaluate__metrics": "chair,lengths",
            "report__baseline": "sare",
            "report__landscape_images": 0,
            "report__matched": False,
        }
        | changes
    )


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Path:
    """A workdir in which every stage has run."""
    workdir = tmp_path_factory.mktemp("road") / "run"
    stages.run(settings(), workdir)
    return workdir


def test_every_run_is_measured_after_every_attack(road):
    for run in ("base", "sare", "npo"):
        params = set()
        for setting in ("origin", *ATTACKS):
            row = json.loads((road / "metrics" / run / f"{setting}.json").read_text())
            assert row["chair"]["n"] == 4
            params.add(row["provenance"].get("params"))
        assert len(params) == 1 + len(ATTACKS)
    loss = json.loads((road / "attacks" / "sare" / "lora.json").read_text())["loss"]
    assert np.isfinite(loss).all()


def test_figures_say_that_they_are_of_int8_kernels(road):
    row = json.loads((road / "metrics" / "sare" / "origin.json").read_text())
    assert (row["provenance"]["dtype"], row["provenance"]["quantization"]) == ("float32", "int8")


def test_the_export_holds_the_base_models_own_frozen_tensors(road):
    """Bit for bit, in the dtype of its files; nothing of it went through int8."""
    config = settings()
    base = open_source(Path(config.model.folder), config.model).tensors
    tuned = open_source(road / "export" / "sare", config.model).tensors
    assert base.keys() == tuned.keys()
    different = {name for name in base if not np.array_equal(base[name].map(), tuned[name].map())}
    assert different
    assert all(name.startswith("multi_modal_projector.") for name in different)
    assert all(base[name].dtype == tuned[name].dtype for name in base.keys() - different)


def test_the_check_of_the_export_names_what_it_compares(road):
    found = json.loads((road / "export_check.json").read_text())
    assert found["n"] == 2
    assert found["rule"].endswith(
        "equal to the letter; the JAX model's kernels were int8, the folder's are not"
    )


def test_a_second_run_does_nothing(road):
    assert stages.run(settings(), road).executed == []


def test_another_precision_goes_on_with_nothing_that_int8_left(road, tmp_path, monkeypatch):
    """Captions, an interrupted training and its starting values are all made again."""
    workdir = Path(shutil.copytree(road, tmp_path / "run"))
    kept = {path.name for path in (workdir / "starting_values").iterdir()}
    assert kept
    files.remove(workdir / "checkpoints" / "npo")
    break_off(monkeypatch, unlearn, at_step=4)
    with pytest.raises(KeyboardInterrupt):
        stages.run(settings(stages="unlearn"), workdir)
    monkeypatch.undo()
    exact = settings(model__quantization="none", stages="caption,curate,unlearn")
    done = stages.run(exact, workdir).executed
    assert {"caption", "unlearn/sare", "unlearn/npo"} <= set(done)
    lines = (workdir / "logs" / "npo.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert {path.name for path in (workdir / "starting_values").iterdir()} - kept
    fresh = tmp_path / "fresh"
    shutil.copytree(workdir / "data", fresh / "data")
    stages.run(settings(model__quantization="none", stages="prepare,caption,curate,unlearn"), fresh)
    assert (fresh / "logs" / "npo.jsonl").read_text() == (workdir / "logs" / "npo.jsonl").read_text()
