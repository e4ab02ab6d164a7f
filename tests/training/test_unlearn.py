"""The whole stage on a tiny LLaVA: resumed bit for bit, one program a objective, any devices."""

import dataclasses
import functools
import os
import signal

import jax
import numpy as np
import pytest

from sare_jax import files
from sare_jax.data.batches import tokenize
from sare_jax.errors import UserError
from sare_jax.optim import AdamW
from sare_jax.plan import sizer
from sare_jax.settings.optim import OptimConfig
from sare_jax.training import losses
from sare_jax.training.checkpoints import load_params, steps_in
from sare_jax.training.loop import NotFiniteError
from sare_jax.training.preset import EfufSchedule
from sare_jax.training.sharding import make_mesh
from sare_jax.training.state import Hyper
from sare_jax.training.unlearn import attach, unlearn
from tests import tiny_training as tiny

LOADED = tiny.tiny_llava()
ONE = make_mesh(1)
placed = functools.cache(functools.partial(tiny.spread, LOADED))  # one program a mesh
SETTINGS = OptimConfig(
    adamw=AdamW(learning_rate=1e-2),
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
        starting=folder / "starting",
        name="tiny",
        mesh=mesh,
        **options,
    )


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_dropout_is_refused_where_nothing_can_be_dropped(tmp_path):
    with pytest.raises(
        UserError, match=r"optim\.dropout: is 0\.1, but llava has no attention in its mapping"
    ):
        train(tmp_path, dataclasses.replace(SETTINGS, dropout=0.1))


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
    wanted |= {"skipped", "skipped_in_a_row"}
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


def test_methods_share_programs_where_numbers_alone_differ(tmp_path, monkeypatch):
    """One program with ρ, one without it, for each objective."""
    traced = []
    original = losses.log_probs_of
    monkeypatch.setattr(losses, "log_probs_of", lambda *a: traced.append(1) or original(*a))
    counts = []
    methods = (
        {"rho": 0.05},
        {"rho": 0.1, "neg_weight": 0.3, "adamw": AdamW(1e-4)},
        {"rho": 0.0},
        {"rho": 0.0, "sent_weight": 0.0, "seed": 3},
        {"objective": "unlikelihood"},
    )
    for number, change in enumerate(methods):
        train(tmp_path / str(number), dataclasses.replace(SETTINGS, steps=1, batch_size=1, **change))
        counts.append(len(traced))
    assert 0 < counts[0] == counts[1] < counts[2] == counts[3] < counts[4]


def test_without_rho_it_is_one_pass_of_eq_1(tmp_path):
    """The compiled step without ρ goes where the step with a vanishing ρ goes."""
    alone = train(tmp_path / "efuf", dataclasses.replace(SETTINGS, rho=0.0, steps=2))
    limit = train(tmp_path / "sare", dataclasses.replace(SETTINGS, rho=1e-9, steps=2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), alone, limit)
    records = files.read_jsonl(tmp_path / "efuf" / "log.jsonl")
    assert set(records[0]) == {
        *("step", "neg", "pos", "sent", "grad_norm", "update_norm", "skipped", "skipped_in_a_row")
    }


def test_packed_captions_come_once_an_epoch(tmp_path):
    settings = dataclasses.replace(SETTINGS, packing="packed", steps=0, epochs=3.0, batch_size=2)
    train(tmp_path, settings)
    records = files.read_jsonl(tmp_path / "log.jsonl")
    assert len(records) == 6  # four captions
    assert steps_in(tmp_path / "checkpoints") == [2, 4, 6]
    assert all(record["neg_perturbed"] > record["neg"] for record in records)


@pytest.mark.parametrize("packing", ["packed", "unpacked"])
def test_rmu_retains_what_it_started_from(tmp_path, packing):
    settings = dataclasses.replace(
        SETTINGS,
        objective="rmu",
        objective_args={"layer": 2},
        packing=packing,
        batch_size=4,
        steps=6,
        adamw=AdamW(1e-2),
    )
    train(tmp_path, settings)
    log = files.read_jsonl(tmp_path / "log.jsonl")
    assert max(log[0]["pos"], log[0]["sent"]) < 1e-9 < log[-1]["pos"]
    assert log[0]["neg"] > log[-1]["neg"] > 0


def test_rmu_at_a_layer_that_is_not_there_is_one_line(tmp_path):
    settings = dataclasses.replace(SETTINGS, objective="rmu", objective_args={"layer": 3})
    with pytest.raises(UserError, match=r"objective_args\.layer: is 3, but the language model has 2 layers"):
        train(tmp_path, settings)


def test_npo_starts_at_its_references(tmp_path):
    """ℓ = ℓ_ref before the first step: L_neg is 2/β ln 2 whatever the units."""
    for packing in ("unpacked", "packed"):
        settings = dataclasses.replace(SETTINGS, objective="npo", packing=packing, steps=2)
        train(tmp_path / packing, settings)
        records = files.read_jsonl(tmp_path / packing / "log.jsonl")
        assert records[0]["neg"] == pytest.approx(2 / 0.1 * np.log(2), rel=1e-5)
        assert records[1]["neg"] != records[0]["neg"]


def test_the_efuf_preset_weighs_by_score_and_lets_go_of_the_negatives(tmp_path):
    """Scores of 1: a negative weighs 54, and after the last step λ₁ would be 0."""
    plain = dataclasses.replace(SETTINGS, rho=0.0, steps=4)
    train(tmp_path / "plain", plain)
    train(tmp_path / "efuf", dataclasses.replace(plain, preset="efuf"))
    first, weighed = (files.read_jsonl(tmp_path / name / "log.jsonl")[0] for name in ("plain", "efuf"))
    assert weighed["neg"] == pytest.approx(54 * first["neg"], rel=1e-5)
    assert weighed["pos"] == pytest.approx(first["pos"], rel=1e-5)
    schedule = EfufSchedule(10)
    at = [schedule(Hyper(0.0, 0.3, 0.2, AdamW()), step) for step in (0, 4, 7, 10)]
    np.testing.assert_allclose([hyper.neg_weight for hyper in at], [0.3, 0.3, 0.15, 0], atol=1e-7)
    np.testing.assert_allclose([hyper.pos_weight for hyper in at], [1, 0.8, 0.65, 0.5], rtol=1e-6)


def test_a_step_that_is_not_finite_is_left_out_and_a_row_of_them_ends_the_run(tmp_path):
    """Bad features in step 2 alone, then in every step."""
    calls = 0

    def once(names):
        nonlocal calls
        calls += 1
        return tiny.features(names) * (np.nan if calls == 2 else 1)

    settings = dataclasses.replace(SETTINGS, steps=3)
    params = train(tmp_path / "once", settings, features=once)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    records = files.read_jsonl(tmp_path / "once" / "log.jsonl")
    assert [record["skipped_in_a_row"] for record in records] == [0, 1, 0]
    assert records[1]["neg"] is None
    with pytest.raises(NotFiniteError, match="6 steps in a row"):
        train(
            tmp_path / "always",
            dataclasses.replace(SETTINGS, steps=20, checkpoint_every=0),
            features=lambda names: tiny.features(names) * np.nan,
        )


@pytest.mark.parametrize("reduction", ["seq_mean_padded", "div512"])
def test_reductions_divide_by_the_lineages_lengths(tmp_path, reduction):
    settings = dataclasses.replace(SETTINGS, rho=0.0, steps=1, batch_size=1)
    train(tmp_path / "mean", settings)
    train(tmp_path / reduction, dataclasses.replace(settings, objective_args={"reduction": reduction}))
    mean, other = (files.read_jsonl(tmp_path / name / "log.jsonl")[0] for name in ("mean", reduction))
    sets = tokenize(tiny.curated(), tiny.Letters(), "say it")
    divisor = 512 if reduction == "div512" else sets.sent.length - 1
    tokens = mean["sent"] and divisor * other["sent"] / mean["sent"]
    lengths = [len(t) - s for t, s in zip(sets.sent.tokens, sets.sent.start, strict=True)]
    assert round(tokens) in lengths
    assert tokens == pytest.approx(round(tokens), rel=1e-4)


@pytest.mark.parametrize(("devices", "micro_batches"), [(8, 1), (2, 3)])
def test_devices_and_micro_batches_do_not_change_the_outcome(tmp_path, devices, micro_batches):
    alone = train(tmp_path / "alone")
    settings = dataclasses.replace(SETTINGS, micro_batches=micro_batches)
    spread = train(tmp_path / "spread", settings, mesh=make_mesh(devices))

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

    jax.tree.map(close, spread, alone)


@pytest.mark.parametrize("packing", ["unpacked", "packed"])
def test_auto_takes_the_fewest_micro_batches_that_fit(tmp_path, monkeypatch, packing):
    """The step that will run is what is asked about: as many parts as let it fit, with the same outcome."""
    peaks, real = [], sizer._peak
    monkeypatch.setattr(sizer, "_peak", lambda program: peaks.append(real(program)) or peaks[-1])
    auto = dataclasses.replace(SETTINGS, micro_batches="auto", packing=packing, steps=2)

    def trained(name, memory):
        monkeypatch.setattr(sizer, "memory_there", lambda mesh: (memory, "this machine"))
        chooser = sizer.DeviceSizer(ONE, "runs.tiny.micro_batches", 1, {}, tmp_path / f"{name}.json")
        return train(tmp_path / name, auto, sizer=chooser)

    with pytest.raises(UserError, match="not even a step in 3 parts leaves"):
        trained("none", 1000)
    whole, cut = peaks
    assert whole > cut
    params = trained("cut", int((whole + cut) / 2 / 0.9))
    assert [entry["chosen"] for entry in files.read_json(tmp_path / "cut.json")] == [3]
    alone = train(tmp_path / "alone", dataclasses.replace(auto, micro_batches=1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), params, alone)
    with pytest.raises(UserError, match=r"optim\.micro_batches: auto needs"):
        train(tmp_path / "lacking", auto)


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
