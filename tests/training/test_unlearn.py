"""The whole stage on a tiny LLaVA: resumed bit for bit, one program a objective, any devices."""

import dataclasses
import functools
import os
import signal

import jax
import numpy as np
import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.settings import OptimConfig
from sare_jax.training import step as step_module
from sare_jax.training.checkpoints import load_params, steps_in
from sare_jax.training.sharding import make_mesh
from sare_jax.training.unlearn import attach, unlearn
from tests import tiny_training as tiny
from tests.tiny_training import quick_compile  # noqa: F401

LOADED = tiny.tiny_llava()
ONE = make_mesh(1)
placed = functools.cache(functools.partial(tiny.spread, LOADED))  # one program a mesh
SETTINGS = OptimConfig(
    learning_rate=1e-2,
    neg_weight=0.5,
    steps=6,
    batch_size=3,
    checkpoint_every=2,
    instruction="say it",
)


def train(folder, settings=SETTINGS, features=tiny.features, mesh=ONE, **options):
    return unlearn(
        placed(mesh),
        tiny.curated(),
        tiny.Letters(),
        features,
        settings,
        folder=folder / "checkpoints",
        log=folder / "log.jsonl",
        name="tiny",
        mesh=mesh,
        **options,
    )


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_it_trains_saves_and_logs(tmp_path):
    before = jax.tree.map(np.array, LOADED.params)
    params = train(tmp_path)
    same(LOADED.params, before)
    assert jax.tree.structure(params) == jax.tree.structure(LOADED.params)
    assert not np.array_equal(
        params["projector"]["linear_1"]["kernel"], before["projector"]["linear_1"]["kernel"]
    )
    assert steps_in(tmp_path / "checkpoints") == [2, 4, 6]
    same(load_params(tmp_path / "checkpoints", LOADED), params)
    records = files.read_jsonl(tmp_path / "log.jsonl")
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    wanted = {"neg", "pos", "sent", "neg_perturbed", "neg_grad_norm", "eps_norm", "cosine", "update_norm"}
    assert set(records[0]) == wanted | {"step"}
    # Case OP-11: the perturbation is on, and has its length, in every step.
    np.testing.assert_allclose([record["eps_norm"] for record in records], SETTINGS.rho, rtol=1e-5)
    assert all(record["neg_perturbed"] > record["neg"] for record in records)


def test_an_interrupted_run_ends_as_the_uninterrupted_one(tmp_path):
    whole = train(tmp_path / "whole")
    calls = 0

    def features(names):
        nonlocal calls
        calls += 1
        if calls == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return tiny.features(names)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", features=features)
    assert steps_in(tmp_path / "cut" / "checkpoints") == [2, 4, 5]
    same(train(tmp_path / "cut"), whole)
    log = (tmp_path / "whole" / "log.jsonl").read_text()
    assert (tmp_path / "cut" / "log.jsonl").read_text() == log


def test_four_methods_share_two_programs(tmp_path, monkeypatch):
    traced = []
    original = step_module.target_log_probs
    monkeypatch.setattr(step_module, "target_log_probs", lambda *a: traced.append(1) or original(*a))
    counts = []
    methods = (
        {"rho": 0.0},
        {"rho": 0.05, "neg_weight": 0.3, "learning_rate": 1e-4},
        {"objective": "unlikelihood"},
        {"objective": "unlikelihood", "rho": 0.0, "sent_weight": 0.0, "seed": 3},
    )
    for number, change in enumerate(methods):
        train(tmp_path / str(number), dataclasses.replace(SETTINGS, steps=1, batch_size=2, **change))
        counts.append(len(traced))
    assert 0 < counts[0] == counts[1] < counts[2] == counts[3]


@pytest.mark.parametrize(("devices", "micro_batches"), [(2, 1), (8, 1), (2, 3)])
def test_devices_and_micro_batches_do_not_change_the_outcome(tmp_path, devices, micro_batches):
    alone = train(tmp_path / "alone")
    settings = dataclasses.replace(SETTINGS, micro_batches=micro_batches)
    spread = train(tmp_path / "spread", settings, mesh=make_mesh(devices))

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

    jax.tree.map(close, spread, alone)


def test_a_run_that_began_on_eight_devices_ends_on_one(tmp_path):
    train(tmp_path, dataclasses.replace(SETTINGS, steps=4), mesh=make_mesh(8))
    resumed = train(tmp_path)
    assert steps_in(tmp_path / "checkpoints") == [2, 4, 6]
    whole = train(tmp_path / "whole")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), resumed, whole)


def test_other_settings_do_not_go_on_in_the_same_folder(tmp_path):
    train(tmp_path, dataclasses.replace(SETTINGS, steps=1))
    with pytest.raises(UserError, match=r"other settings \(rho\)"):
        train(tmp_path, dataclasses.replace(SETTINGS, rho=0.1))


def test_features_are_asked_for_once_a_step_and_go_to_their_rows():
    asked = []

    def features(names):
        asked.append(list(names))
        return tiny.features(names)

    batch = {
        kind: {"image": np.array([f"{kind}.png", "shared.png"]), "valid": np.ones(2)}
        for kind in ("neg", "pos", "sent")
    }
    attached = attach(batch, features)
    assert asked == [["neg.png", "shared.png", "pos.png", "shared.png", "sent.png", "shared.png"]]
    for kind in batch:
        assert set(attached[kind]) == {"valid", "features"}
        np.testing.assert_array_equal(
            attached[kind]["features"], tiny.features([f"{kind}.png", "shared.png"])
        )
