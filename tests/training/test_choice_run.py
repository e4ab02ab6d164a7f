"""Whole runs of grounded choice on a tiny model, and the questions that they ask first."""

import dataclasses
import functools
import os
import signal

import jax
import numpy as np
import pytest

from sare_jax import files
from sare_jax.data.choices import answer_tokens, asked_objects, choice_sets, choices, question_units
from sare_jax.data.openings import all_openings, token_places
from sare_jax.errors import UserError
from sare_jax.models.shared import partition
from sare_jax.settings.building import build
from sare_jax.settings.optim import OptimConfig
from sare_jax.training import asking
from sare_jax.training.checkpoints import steps_in
from sare_jax.training.choices import Caption, name_log_probs
from sare_jax.training.samples import evidence
from sare_jax.training.sharding import make_mesh
from tests import tiny_training as tiny
from tests.training import small_choices as small

SETTINGS = small.SETTINGS
KNOWN = choices(small.curated(), small.AnyText(), SETTINGS.instruction)


class Counting:
    """Image features, counted: one a row that goes through the model."""

    def __init__(self, cut_at: int = 0):
        self.rows, self._calls, self._cut_at = 0, 0, cut_at

    def __call__(self, names):
        self._calls += 1
        if self._calls == self._cut_at:
            raise KeyboardInterrupt
        self.rows += len(names)
        return tiny.features(names)


def trainable(loaded, pattern):
    """The model with all parameters trainable whose paths start with one of these."""
    flat = partition.flatten(loaded.params) | partition.flatten(loaded.frozen)
    params = {path: leaf for path, leaf in flat.items() if path.startswith(pattern)}
    frozen = {path: leaf for path, leaf in flat.items() if path not in params}
    return dataclasses.replace(loaded, params=partition.unflatten(params), frozen=partition.unflatten(frozen))


WHOLE = trainable(small.LOADED, ("projector/", "language_model/"))
GENERAL = trainable(small.LOADED, ("projector/", "language_model/norm/"))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def ask(loaded, folder, features=tiny.features, samples=SETTINGS.samples):
    """float32[R, C], the evidence, asked of two images at a time."""
    return evidence(KNOWN, small.AnyText(), samples, small.asking(loaded, folder, features))


def mean_log_probs(params, odds):
    """Mean log-probability of naming something certainly absent, and something certainly present."""
    captions = []
    for row, text in enumerate(small.CAPTIONS):
        opened = all_openings(text, KNOWN.words)[1:]
        tokens, places = token_places(opened, text, small.AnyText(), f"{row}.png", SETTINGS.instruction)
        captions.append(Caption(f"{row}.png", tokens, places))
    found = name_log_probs(
        WHOLE,
        params,
        captions,
        list(KNOWN.tokens),
        features=tiny.features,
        pad_id=tiny.PAD,
        mesh=small.ONE,
        batch_size=4,
    )
    sets = choice_sets(KNOWN, small.AnyText(), odds, SETTINGS.samples.certain)
    means = []
    for kind, name in (("neg", "absent"), ("pos", "present")):
        marks = []
        for row, (caption, start) in enumerate(zip(captions, getattr(sets, kind).start, strict=True)):
            marked = getattr(sets, kind).by_token[name][row]
            marks += [marked[place - start] for _, place in caption.places]
        means.append(found[np.array(marks)].mean())
    return means


def test_absent_objects_become_unlikely_and_present_ones_likely(tmp_path):
    """With a margin that a random model, to which all names are unlikely, does not keep yet."""
    settings = dataclasses.replace(
        SETTINGS, steps=40, checkpoint_every=0, objective_args={"margin": 9.0}, sent_weight=0.1
    )
    odds = ask(WHOLE, tmp_path / "odds")
    before = mean_log_probs(WHOLE.params, odds)
    after = mean_log_probs(small.train(WHOLE, tmp_path, settings), odds)
    assert after[0] < before[0] - 0.5
    assert after[1] > before[1] + 0.5
    records = files.read_jsonl(tmp_path / "log.jsonl")
    assert records[-1]["neg"] < records[0]["neg"]
    assert records[-1]["pos"] < records[0]["pos"]
    assert records[0]["sent"] == pytest.approx(0, abs=1e-5)  # nothing has moved yet


def test_an_interrupted_run_ends_as_the_uninterrupted_one(tmp_path):
    whole = small.train(small.LOADED, tmp_path / "whole")
    asked = files.digest(tmp_path / "whole" / "starting")
    calls = 0

    def features(names):
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return tiny.features(names)

    cut = tmp_path / "cut"
    measured = small.train(small.LOADED, cut, dataclasses.replace(SETTINGS, steps=1))
    assert measured.keys() == whole.keys()
    assert files.digest(cut / "starting") == asked
    with pytest.raises(KeyboardInterrupt):
        small.train(small.LOADED, cut, features=features)
    assert 1 < max(steps_in(cut / "checkpoints")) < SETTINGS.steps
    same(small.train(small.LOADED, cut), whole)


def test_questions_are_asked_once_and_go_on_where_they_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "CHUNK", 1)
    first = Counting()
    odds = ask(small.LOADED, tmp_path / "kept", first)
    assert np.isfinite(odds).all()
    assert first.rows == 2 * len(small.CAPTIONS)  # each chunk of one image is filled up to two
    again = Counting()
    np.testing.assert_array_equal(ask(small.LOADED, tmp_path / "kept", again), odds)
    assert again.rows == 0
    with pytest.raises(KeyboardInterrupt):
        ask(small.LOADED, tmp_path / "cut", Counting(cut_at=3))  # two chunks are written
    rest = Counting()
    np.testing.assert_array_equal(ask(small.LOADED, tmp_path / "cut", rest), odds)
    assert rest.rows == first.rows - 4


@pytest.mark.parametrize("shape", [(2, 1), (2, 2)], ids=["data", "fsdp"])
def test_several_devices_answer_as_one(tmp_path, shape):
    mesh = make_mesh(*shape)
    known, text = KNOWN, small.AnyText()
    one, several = (
        evidence(
            known,
            text,
            SETTINGS.samples,
            functools.partial(
                asking.answer_odds,
                loaded=tiny.spread(small.LOADED, where),
                features=tiny.features,
                mesh=where,
                batch_size=3,
                pad_id=tiny.PAD,
                folder=tmp_path / str(where.size),
                made_from={},
            ),
        )
        for where in (small.ONE, mesh)
    )
    np.testing.assert_allclose(several, one, rtol=1e-5, atol=1e-5)


def test_other_weights_are_asked_again_and_so_are_other_questions(tmp_path):
    odds = ask(small.LOADED, tmp_path)
    other = Counting()
    assert not np.array_equal(ask(tiny.tiny_llava(6), tmp_path, other), odds)
    assert other.rows == len(small.CAPTIONS)
    otherwise = Counting()
    ask(small.LOADED, tmp_path, otherwise, dataclasses.replace(SETTINGS.samples, prompt="{} say"))
    assert otherwise.rows == len(small.CAPTIONS)


@pytest.mark.parametrize("most", [32, 5])
def test_odds_are_those_of_a_row_a_question(tmp_path, monkeypatch, most):
    monkeypatch.setattr(asking, "MOST", most)
    odds = ask(small.LOADED, tmp_path)
    pairs = np.argwhere(np.isfinite(odds))
    units = question_units(KNOWN, small.AnyText(), pairs, ["Yes"] * len(pairs), SETTINGS.samples.prompt)
    yes, no = answer_tokens(KNOWN, small.AnyText(), SETTINGS.samples.prompt)
    model = small.LOADED.merge(small.LOADED.params, small.LOADED.frozen)
    for unit, (row, number) in zip(units, pairs, strict=True):
        hidden = model.hidden(unit.tokens[None, : unit.start], tiny.features([unit.image]))
        logits = model.logits(hidden[0, -1])
        assert odds[row, number] == pytest.approx(float(logits[yes] - logits[no]), rel=1e-4, abs=1e-5)


def test_questions_limit_what_is_asked_and_nobody_is_certain_of_the_rest(tmp_path):
    limited = dataclasses.replace(SETTINGS.samples, questions=4)
    counting = Counting()
    odds = ask(small.LOADED, tmp_path, counting, limited)
    asked = asked_objects(KNOWN, 4)
    np.testing.assert_array_equal(np.isfinite(odds), asked)
    assert asked.sum() == 4 * len(small.CAPTIONS)
    assert counting.rows == len(small.CAPTIONS)
    sets = choice_sets(KNOWN, small.AnyText(), odds, 0.0)
    for kind, name in (("neg", "absent"), ("pos", "present")):
        for row, marked in enumerate(getattr(sets, kind).by_token[name]):
            asked_about = set(KNOWN.column[asked[row]])
            assert set(np.flatnonzero(marked.any(0))) <= asked_about


def test_what_nobody_asked_about_is_neither_present_nor_absent():
    """Nor is its first token absent, which it shares: fox and fork."""
    odds = np.full((len(small.CAPTIONS), len(KNOWN.words)), -5.0)
    odds[:, KNOWN.words.names.index("fox")] = np.nan
    odds[:, KNOWN.words.names.index("rug")] = 5
    sets = choice_sets(KNOWN, small.AnyText(), odds, 2.0)
    absent, present = (
        {tiny.LETTERS[KNOWN.tokens[at]] for each in marked for at in np.flatnonzero(each.any(0))}
        for marked in (sets.neg.by_token["absent"], sets.pos.by_token["present"])
    )
    assert present == {"r"}
    assert absent == {tiny.LETTERS[token] for token in KNOWN.tokens} - {"r", "f"}


def test_the_perturbation_has_its_length_in_every_step(tmp_path):
    settings = dataclasses.replace(SETTINGS, rho=0.05, steps=3)
    small.train(small.LOADED, tmp_path, settings)
    records = files.read_jsonl(tmp_path / "log.jsonl")
    np.testing.assert_allclose([record["eps_norm"] for record in records], 0.05, rtol=1e-5)
    assert all(record["neg_perturbed"] > record["neg"] for record in records)


@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_every_trainable_leaf_moves(tmp_path, rho):
    """With the language model's norm among them, which takes gradients of the other kind."""
    params = small.train(GENERAL, tmp_path, dataclasses.replace(SETTINGS, steps=2, rho=rho))
    before, after = partition.flatten(GENERAL.params), partition.flatten(params)
    assert set(before) == set(after)
    assert any(path.startswith("language_model/norm/") for path in after)
    for path, leaf in after.items():
        assert not np.array_equal(leaf, before[path]), path


@pytest.mark.parametrize(
    "stated", [{"objective": "grounded_choice"}, {"samples": {"kind": "choices"}}], ids=["curated", "ascent"]
)
def test_objective_and_samples_have_to_fit(stated):
    with pytest.raises(
        UserError, match=r"^config\.optim\.samples\.kind: .*set config\.optim\.samples\.kind="
    ):
        build(OptimConfig, stated, "config.optim")
