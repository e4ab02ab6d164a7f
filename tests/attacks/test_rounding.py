"""Rounding: the grid of each output channel, and what stays."""

import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.attacks.rounding import Rounding, _rounded, round_weights
from sare_jax.errors import UserError
from sare_jax.models.shared.partition import flatten
from sare_jax.settings.building import build
from tests.attacks.setting import LOADED, tools


def test_a_channel_goes_to_its_own_grid():
    kernel = jnp.array([[7.0, 0.2, 0.0], [-3.4, -0.7, 0.0], [0.6, 0.45, 0.0]])  # [in, out]
    expected = [[7.0, 0.2, 0.0], [-3.0, -0.7, 0.0], [1.0, 0.4, 0.0]]  # four bits: steps of 1, 0.1 and none
    np.testing.assert_allclose(_rounded(kernel, 4, stacked=False), expected, atol=1e-6)


def test_layers_that_are_stacked_have_grids_of_their_own():
    layers = jnp.stack([jnp.array([[7.0], [1.4]]), jnp.array([[0.7], [0.14]])])
    np.testing.assert_allclose(_rounded(layers, 4, stacked=True)[..., 0], [[7, 1], [0.7, 0.1]], atol=1e-6)
    together = _rounded(layers, 4, stacked=False)[..., 0]
    np.testing.assert_allclose(together, [[7, 1], [1, 0]], atol=1e-6)
    norms = jnp.array([[0.3, 0.2], [0.1, 0.9]])  # [layer, channel]
    assert _rounded(norms, 2, stacked=True) is norms


@pytest.mark.parametrize("bits", [8, 4])
def test_matrices_are_rounded_to_so_many_values_and_vectors_stay(bits):
    before = flatten(LOADED.params)
    made = round_weights(tools(), LOADED.params, Rounding(bits))
    after = flatten(made.params)
    assert after.keys() == before.keys()
    squares = 0.0
    for path, leaf in after.items():
        if leaf.ndim == 1:
            np.testing.assert_array_equal(leaf, before[path])
            continue
        largest = np.abs(before[path]).max(axis=0)
        codes = leaf / largest * (2 ** (bits - 1) - 1)
        np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)
        change = np.abs(leaf - before[path])
        assert (change <= 0.5001 * largest / (2 ** (bits - 1) - 1)).all()
        assert change.max() > 0
        squares += float((change**2).sum())
    assert made.record["rounded"] == 2
    assert made.record["moved"] == pytest.approx(squares**0.5, rel=1e-4)
    assert made.record["tuned"] == 0


def test_fewer_bits_move_more():
    moved = {bits: round_weights(tools(), LOADED.params, Rounding(bits)).record["moved"] for bits in (8, 4)}
    assert moved[4] > 10 * moved[8] > 0


@pytest.mark.parametrize("bits", [1, 17])
def test_grids_without_a_step_are_refused(bits):
    with pytest.raises(UserError, match=rf"a\.bits: must be between 2 and 16, got {bits}"):
        build(Rounding, {"bits": bits}, "a")
