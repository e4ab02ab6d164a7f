"""The control against masking: how fast a neutral text is learnt."""

import math

import jax
import numpy as np
import pytest

from sare_jax.attacks.masking import Masking, learning_speed
from sare_jax.optim import AdamW
from tests.attacks.setting import LOADED, tools

TEXT = "the sum of one and two is three."


def speed(rate, steps=25, params=LOADED.params):
    return learning_speed(tools(), params, Masking(steps, TEXT, AdamW(rate, weight_decay=0.0)))


def test_the_loss_of_each_step_is_told_in_nats_a_token():
    before = jax.tree.map(np.array, LOADED.params)
    found = speed(0.1)
    assert (found["steps"], len(found["loss"]), found["samples"]) == (25, 25, 100)
    # Random weights know nothing of 33 letters and signs.
    assert found["before"] == found["loss"][0] == pytest.approx(math.log(33), abs=0.5)
    assert found["after"] == found["loss"][-1]
    assert found["gained"] == pytest.approx(found["loss"][0] - found["loss"][-1])
    assert found["gained"] > 0.3
    assert found["text"] == TEXT
    jax.tree.map(np.testing.assert_array_equal, LOADED.params, before)


def test_a_slower_learner_is_seen():
    assert speed(1e-4)["gained"] < 0.3 * speed(0.1)["gained"]


def test_it_starts_at_the_weights_that_are_given():
    shifted = jax.tree.map(lambda x: x + 0.3, LOADED.params)
    assert speed(1e-4, steps=1, params=shifted)["before"] != speed(1e-4, steps=1)["before"]
