"""Picking and dealing against numpy, and their gradients against those of plain indexing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.models.shared.gather import fill_image_slots, pick

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)


def test_pick_and_its_gradient_where_a_place_comes_twice():
    places = np.array([[4, 0, 4, 2], [1, 1, 1, 3]])
    upstream = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)
    out, pull = jax.vjp(lambda x: pick(x, places), X)
    np.testing.assert_array_equal(out, np.take_along_axis(X, places[..., None], 1))
    expected = np.zeros_like(X)
    for row, column in np.ndindex(places.shape):
        expected[row, places[row, column]] += upstream[row, column]
    np.testing.assert_allclose(pull(jnp.asarray(upstream))[0], expected, rtol=1e-6)


@pytest.mark.parametrize("length", [4, 9])
def test_deal_hands_out_rows_in_order(length):
    """More rows than takers, or none; once more rows than the token row is long."""
    rng = np.random.default_rng(2)
    wanted = np.zeros((2, length), bool)
    wanted[0, [1, 2, length - 1]] = True
    upstream = rng.normal(size=(2, length, 3)).astype(np.float32)
    expected, gradient = np.zeros((2, length, 3), np.float32), np.zeros_like(X)
    for taken, place in enumerate(np.flatnonzero(wanted[0])):
        expected[0, place], gradient[0, taken] = X[0, taken], upstream[0, place]
    out, pull = jax.vjp(lambda x: jnp.where(wanted[..., None], fill_image_slots(x, wanted), 0), X)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(pull(jnp.asarray(upstream))[0], gradient)
