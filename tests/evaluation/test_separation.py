"""Log-odds of present and absent objects."""

import json

import numpy as np
import pytest

from sare_jax.evaluation import separation
from sare_jax.evaluation.excess import excess
from sare_jax.evaluation.separation import Choices, auc, log_odds


def made(shift=0.0, gap=2.0, images=40, seed=0):
    """Ten choices an image, three of them present and `gap` likelier; the first and the last are named."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), 10)
    present = np.tile(np.arange(10) < 3, images)
    named = np.tile(np.isin(np.arange(10), (0, 9)), images)
    return Choices(image, rng.normal(size=len(image)) + gap * present + shift, present, named)


def test_log_odds():
    assert log_odds(np.log([0.5, 0.9])) == pytest.approx([0, np.log(9)])
    assert np.isfinite(log_odds(np.array([0.0, -200.0]))).all()


def test_auc_counts_pairs():
    values, positive = np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])
    pairs = [(a > b) + 0.5 * (a == b) for a in values[positive] for b in values[~positive]]
    assert auc(values, positive) == pytest.approx(np.mean(pairs))
    assert auc(values, np.ones(4, bool)) is None
    doubled = auc(np.append(values, 3.0), np.append(positive, True))
    assert auc(values, positive, np.array([2.0, 1, 1, 1])) == pytest.approx(doubled)


def test_means_and_auc_of_known_choices():
    found = separation.score(range(40), made(), draws=200)
    choices = made()
    for name, chosen in (
        ("present", choices.present),
        ("absent", ~choices.present),
        ("grounded", choices.named & choices.present),
        ("invented", choices.named & ~choices.present),
    ):
        assert found[name] == pytest.approx(choices.log_odds[chosen].mean()), name
        low, high = found["intervals"][name]
        assert low < found[name] < high
    assert found["auc"] == pytest.approx(auc(choices.log_odds, choices.present))
    assert found["intervals"]["auc"][0] < found["auc"] < found["intervals"]["auc"][1]
    assert (found["n"], found["n_openings"]) == (40, 80)
    json.dumps(found, allow_nan=False)


def test_a_shift_of_everything_leaves_separation_alone():
    before, after = (separation.score(range(40), made(shift), draws=20) for shift in (0.0, -1.2))
    assert after["auc"] == pytest.approx(before["auc"])
    assert after["invented"] == pytest.approx(before["invented"] - 1.2)
    wider = separation.score(range(40), made(gap=3.0), draws=20)
    assert wider["auc"] > before["auc"]


def test_excess_in_log_odds_is_paired_over_images():
    rows = [
        {"separation": separation.score(range(40), made(shift), draws=20)} for shift in (0.0, 0.5, -1.0, -0.2)
    ]
    found = excess(rows[2:], rows[:2], known=separation.COUNTS, draws=100)["separation.invented"]
    assert found["given_back"] == pytest.approx(0.8)
    assert found["by_base"] == pytest.approx(0.5)
    assert found["difference"] == pytest.approx(0.3)
    assert found["interval"] == pytest.approx([0.3, 0.3])  # a shift of all is the same on every image


def test_nothing_present_has_no_auc():
    choices = made()._replace(present=np.zeros(400, bool))
    found = separation.score(range(40), choices, draws=20)
    assert (found["auc"], found["auc_named"], found["grounded"]) == (None, None, 0)
    assert "auc" not in found["intervals"]
