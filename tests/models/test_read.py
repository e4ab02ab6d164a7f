"""Training's way through the model gives the hidden states of the plain one, and their gradients."""

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


def plain(params):
    hidden = LOADED.merge(params, LOADED.frozen).hidden(TOKENS, FEATURES)
    return jnp.take_along_axis(hidden, PLACES[..., None], axis=1)


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
            places=PLACES - ahead,
            prefix=prefix,
            remat_policy=policy,
        )

    np.testing.assert_allclose(read(LOADED.params), plain(LOADED.params), rtol=1e-5, atol=1e-6)
    weights = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
    found, expected = (
        jax.grad(lambda params, f=f: jnp.sum(weights * f(params)))(LOADED.params) for f in (read, plain)
    )
    assert_trees_close(found, expected)
