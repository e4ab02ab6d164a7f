"""Unit losses against float64, and at both ends of P."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.optim.objectives import ERASING, ascent, token_mean_nll, unlikelihood

MASK = jnp.array([[True, True, True, False], [True, False, False, False]])
LOG_PROBS = jnp.array([[-0.5, -1.0, -3.0, -7.0], [-2.0, -9.0, -9.0, -9.0]])


def test_token_mean_leaves_out_what_is_masked():
    np.testing.assert_allclose(token_mean_nll(LOG_PROBS, MASK), [1.5, 2.0])
    np.testing.assert_allclose(ascent(LOG_PROBS, MASK), [-1.5, -2.0])


def test_unlikelihood_is_that_of_the_whole_unit():
    exact = -np.log1p(-np.exp(np.array([-4.5, -2.0], np.float64)))
    np.testing.assert_allclose(unlikelihood(LOG_PROBS, MASK), exact, rtol=1e-5)


@pytest.mark.parametrize("log_p", [-1e-3, -0.1, -0.69, -0.7, -5.0, -20.0, -80.0])
def test_unlikelihood_and_its_slope_match_float64(log_p):
    value, slope = jax.value_and_grad(lambda x: unlikelihood(x[None], jnp.array([True])))(jnp.float32(log_p))
    p = np.exp(np.float64(np.float32(log_p)))
    np.testing.assert_allclose(value, -np.log1p(-p), rtol=2e-3)
    np.testing.assert_allclose(slope, p / (1 - p), rtol=2e-3)


@pytest.mark.parametrize("log_p", [0.0, -1e-9, -1e-7, -200.0, -1e30])
def test_unlikelihood_is_finite_at_both_ends(log_p):
    with jax.debug_nans(True), jax.debug_infs(True):
        value, slope = jax.jit(jax.value_and_grad(lambda x: unlikelihood(x[None], jnp.array([True]))))(log_p)
    assert np.isfinite(value)
    assert np.isfinite(slope)
    assert (slope > 1e5) if log_p > -1e-5 else (value == slope == 0)


def nll_and_p(logits):
    log_probs = jax.nn.log_softmax(logits)[..., :1]
    return log_probs, jnp.ones_like(log_probs, bool)


def slope_at(objective, margin):
    """|d loss / d logits| where the target's logit leads by `margin`."""
    logits = jnp.array([margin, 0.0, 0.0])
    return float(jnp.linalg.norm(jax.grad(lambda x: objective(*nll_and_p(x)))(logits)))


def test_ascent_runs_on_where_unlikelihood_stops():
    assert slope_at(ascent, -12.0) == pytest.approx(np.sqrt(1.5), rel=1e-2)
    assert slope_at(unlikelihood, -12.0) < 1e-4


def test_ascent_stalls_at_certainty_where_unlikelihood_pushes():
    assert slope_at(ascent, 10.0) < 1e-3
    assert slope_at(unlikelihood, 10.0) == pytest.approx(np.sqrt(1.5), rel=5e-2)


@pytest.mark.parametrize("objective", [token_mean_nll, *ERASING.values()])
def test_a_unit_without_tokens_has_loss_and_gradient_zero(objective):
    with jax.debug_nans(True):
        value, slope = jax.value_and_grad(lambda x: objective(x, jnp.zeros(3, bool)))(jnp.full(3, -1.0))
    assert value == 0
    np.testing.assert_array_equal(slope, np.zeros(3))


@pytest.mark.parametrize("objective", ERASING.values())
def test_descending_either_objective_makes_the_target_rarer(objective):
    logits = jnp.array([1.0, 0.5, 0.0])
    slope = jax.grad(lambda x: objective(*nll_and_p(x)))(logits)
    assert token_mean_nll(*nll_and_p(logits - 0.1 * slope)) > token_mean_nll(*nll_and_p(logits))
