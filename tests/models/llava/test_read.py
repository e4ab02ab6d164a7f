"""Training's way through the model gives the hidden states of the plain one, and their gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import make_mesh
from tests import tiny_training as tiny
from tests.training.naive import assert_trees_close

LOADED = tiny.tiny_llava()
TOKENS = np.array([[5, 6, *[tiny.IMAGE] * 4, 1, 2, 3, 4], [5, 6, *[tiny.IMAGE] * 4, 9, 8, 7, tiny.PAD]])
PLACES = np.array([[6, 9, 7], [8, 8, 5]])
FEATURES = tiny.features(["a", "b"])


WEIGHTS = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)


def plain(params):
    hidden = LOADED.merge(params, LOADED.frozen).hidden(TOKENS, FEATURES)
    return jnp.take_along_axis(hidden, PLACES[..., None], axis=1)


def with_gradient(read):
    """Hidden states, and the gradient of their sum with `WEIGHTS`."""

    def weighted(params):
        hidden = read(params)
        return jnp.sum(WEIGHTS * hidden), hidden

    gradient, hidden = jax.jit(jax.grad(weighted, has_aux=True))(LOADED.params)
    return hidden, gradient


@functools.cache
def expected():
    return with_gradient(plain)


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
@pytest.mark.parametrize("ahead", [0, 2])
def test_read_equals_hidden_at_the_places(remat, ahead):
    prefix = tuple(TOKENS[0, :ahead].tolist())
    policy = remat_policy(remat, make_mesh(1))

    def read(params):
        model = LOADED.merge(params, LOADED.frozen)
        return model.read(
            TOKENS[:, ahead:],
            model.project(FEATURES),
            positions=PLACES - ahead,
            prefix=prefix,
            remat_policy=policy,
        )

    (hidden, gradient), (wanted, wanted_gradient) = with_gradient(read), expected()
    np.testing.assert_allclose(hidden, wanted, rtol=1e-5, atol=1e-6)
    assert_trees_close(gradient, wanted_gradient)
