"""The abstractor's attention dropout: the oracle with the same weights dropped; by row and by step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sare_jax.data.batches import SETS
from sare_jax.errors import UserError
from sare_jax.optim import AdamW
from sare_jax.settings import ModelConfig
from sare_jax.settings.optim import OptimConfig
from sare_jax.training.state import Hyper, as_arrays, efuf_optimizer, init_state
from sare_jax.training.static import Dropout
from sare_jax.training.step import efuf_step
from tests import tiny_owl
from tests.models.mplug_owl import oracle
from tests.models.small_world import assert_gradients_close, attached, batches, make_world
from tests.training.naive import assert_trees_close, gradient_of, static_of

RATE = 0.3
HYPER = Hyper(0.0, 0.3, 0.2, AdamW(1e-3, 0.05))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny model, curated captions, and the model's tensors in torch."""
    root = tmp_path_factory.mktemp("owl")
    tensors = tiny_owl.write_owl(root)
    return make_world(ModelConfig(folder=str(root)), root), tensors


@pytest.fixture(scope="module")
def project(world):
    loaded = world[0].loaded

    @jax.jit
    def run(features, keys):
        model = loaded.merge(loaded.params, loaded.frozen)
        return loaded.family.dropping(model, features, keys, RATE)

    return run


def test_the_dropped_weights_are_those_of_torch_after_the_softmax(world, project, monkeypatch):
    (made, tensors), keys = world, jax.random.split(jax.random.key(5), 2)
    config = made.loaded.config
    own, queries = config.abstractor, config.abstractor.num_queries
    shape = (own.num_heads, queries, queries + config.num_image_features)
    features = made.features(["0.png", "1.png"])
    factors = []
    for layer in range(own.num_layers):
        of_image = [jax.random.fold_in(jax.random.fold_in(key, 0), layer) for key in keys]
        kept = [np.asarray(jax.random.bernoulli(key, 1 - RATE, shape), np.float32) for key in of_image]
        factors.append(torch.from_numpy(np.stack(kept)) / (1 - RATE))
    share = float(torch.stack(factors).eq(0).float().mean())
    assert abs(share - RATE) < 0.03

    def attention(q, k, v):
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1) * factors.pop(0)
        return (weights @ v).transpose(1, 2).flatten(2)

    monkeypatch.setattr(oracle, "softmax_attention", attention)
    with torch.no_grad():
        image = torch.from_numpy(np.asarray(features))
        theirs = oracle.abstractor(tensors, image, heads=own.num_heads, layers=own.num_layers)
    np.testing.assert_allclose(project(features, keys), theirs.numpy(), rtol=1e-4, atol=1e-4)


def test_a_row_drops_by_its_own_key_whatever_stands_beside_it(world, project):
    features, keys = world[0].features(["0.png", "1.png", "2.png"]), jax.random.split(jax.random.key(1), 3)
    found = project(features, keys)
    np.testing.assert_allclose(project(features[::-1], keys[::-1])[::-1], found, rtol=1e-5, atol=1e-6)
    others = project(features, jax.random.split(jax.random.key(2), 3))
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(others, found, strict=True))


@pytest.fixture(scope="module")
def step(world):
    """(steps done, micro-batches) → losses, and the gradient that AdamW sees."""
    loaded = world[0].loaded
    batch = attached(world[0], batches(world[0])["unpacked"])

    @functools.cache
    def compiled(parts):
        static = static_of(loaded=loaded, micro_batches=parts, dropout=Dropout(loaded.family.dropping, RATE))
        return jax.jit(functools.partial(efuf_step, static=static))

    def run(done=0, parts=1):
        state = init_state(loaded.params, efuf_optimizer(HYPER), seed=0)
        state = dataclasses.replace(state, step=jnp.int32(done))
        state, metrics = compiled(parts)(state, loaded.frozen, batch, as_arrays(HYPER))
        return {kind: metrics[kind] for kind in SETS}, gradient_of(state)

    return run


def test_every_step_drops_others_and_a_repeated_one_the_same(step):
    first, second = step(done=0), step(done=1)
    assert_trees_close(step(done=0), first, rtol=0)
    for kind in SETS:
        assert abs(first[0][kind] - second[0][kind]) > 1e-4


def test_micro_batches_drop_what_the_whole_batch_drops(step):
    (losses, gradient), (expected, whole) = step(parts=2), step(parts=1)
    assert_trees_close(losses, expected, rtol=1e-5)
    assert_gradients_close(gradient, whole, 1e-5)


def test_a_rate_of_one_would_drop_everything():
    with pytest.raises(UserError, match=r"config\.optim\.dropout: must be at least 0 and below 1, got 1"):
        OptimConfig(dropout=1.0).check("config.optim")
