"""Relearning: nested samples, one pass, plain L_ft on the tuned layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.attacks.finetune import sample_order
from sare_jax.attacks.relearn import Relearn, relearn
from sare_jax.data.batches import finetune_batches, tokenize
from sare_jax.errors import UserError
from sare_jax.objectives.likelihood import token_mean_nll
from sare_jax.optim import AdamW
from sare_jax.training.losses import target_log_probs
from sare_jax.training.sharding import make_mesh
from tests import tiny_training as tiny
from tests.attacks.setting import CURATED, LOADED, ONE, tools


def attack(num_samples, params=LOADED.params, mesh=ONE, learning_rate=1e-2, weight_decay=0.0):
    settings = Relearn(num_samples, AdamW(learning_rate, weight_decay))
    return relearn(tools(mesh=mesh), params, settings).params


@functools.cache
def units():
    return tokenize(CURATED, tiny.Letters(), "say it", kinds=("neg",)).neg


def batches(order):
    for batch in finetune_batches(units(), order, batch_size=4):
        yield tiny.attach(batch)


@jax.jit
def nll(params, batch):
    model = LOADED.merge(params, LOADED.frozen)
    losses = token_mean_nll(*target_log_probs(model, batch))
    return jnp.sum(losses * batch["valid"]) / jnp.sum(batch["valid"])


def test_samples_are_nested_by_seed():
    orders = {n: sample_order(500, n, seed=7) for n in (60, 100, 140)}
    np.testing.assert_array_equal(orders[60], orders[100][:60])
    np.testing.assert_array_equal(orders[100], orders[140][:100])
    assert len(set(orders[140])) == 140
    assert set(orders[60]) != set(sample_order(500, 60, seed=8))
    np.testing.assert_array_equal(sample_order(500, 0, seed=7)[:140], orders[140])
    assert sorted(sample_order(500, 0, seed=7)) == list(range(500))


def test_too_many_samples_are_refused():
    with pytest.raises(UserError, match=r"attack\.num_samples is 21, but D_neg has 20"):
        attack(21)


def test_it_is_one_pass_of_adamw_over_the_samples():
    """Ten samples at four a step: the last batch is the mean of two."""
    optimizer = optax.adamw(1e-2, weight_decay=0.0)
    params, state = LOADED.params, optimizer.init(LOADED.params)
    steps = 0
    for batch in batches(sample_order(20, 10, seed=0)):
        updates, state = optimizer.update(jax.grad(nll)(params, batch), state, params)
        params = optax.apply_updates(params, updates)
        steps += 1
    assert steps == 3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), attack(10), params)


def test_it_brings_the_samples_back_and_leaves_its_input():
    before = jax.tree.map(np.array, LOADED.params)
    relearnt = attack(20, learning_rate=3e-2)
    jax.tree.map(np.testing.assert_array_equal, LOADED.params, before)
    seen = list(batches(sample_order(20, 20, seed=0)))
    assert np.mean([nll(relearnt, b) for b in seen]) < np.mean([nll(LOADED.params, b) for b in seen]) - 0.1


def test_it_records_the_loss_of_each_step():
    record = relearn(tools(), LOADED.params, Relearn(10, AdamW(3e-2, 0.0))).record
    first = next(batches(sample_order(20, 10, seed=0)))
    assert (record["samples"], record["steps"], len(record["loss"])) == (10, 3, 3)
    assert record["loss"][0] == pytest.approx(float(nll(LOADED.params, first)), rel=1e-4)
    assert record["loss"][2] < record["loss"][0]


def test_the_same_samples_whatever_they_are_applied_to():
    shifted = jax.tree.map(lambda x: x + 0.01, LOADED.params)
    twice = [attack(8, shifted), attack(8, shifted)]
    jax.tree.map(np.testing.assert_array_equal, *twice)


def test_weight_decay_is_applied_where_asked():
    plain, decayed = attack(4), attack(4, weight_decay=0.5)
    kernel = np.asarray(LOADED.params["projector"]["linear_1"]["kernel"])
    difference = plain["projector"]["linear_1"]["kernel"] - decayed["projector"]["linear_1"]["kernel"]
    np.testing.assert_allclose(difference, 1e-2 * 0.5 * kernel, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_do_not_change_it(devices):
    alone, spread = attack(6), attack(6, mesh=make_mesh(devices))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), spread, alone)
