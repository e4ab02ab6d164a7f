"""Unit losses against float64, and at both ends of P."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.objectives.ascent import ascent_loss as ascent
from sare_jax.objectives.dpo import dpo_loss as dpo
from sare_jax.objectives.likelihood import log_likelihood, nll, token_mean_nll
from sare_jax.objectives.npo import npo_loss as npo
from sare_jax.objectives.simnpo import simnpo_loss as simnpo
from sare_jax.objectives.unlikelihood import unlikelihood_loss as unlikelihood

MASK = jnp.array([[True, True, True, False], [True, False, False, False]])
LOG_PROBS = jnp.array([[-0.5, -1.0, -3.0, -7.0], [-2.0, -9.0, -9.0, -9.0]])
OBJECTIVES = {
    "ascent": ascent,
    "unlikelihood": unlikelihood,
    "npo": functools.partial(npo, reference=jnp.float32(-1.0)),
    "simnpo": simnpo,
    "dpo": functools.partial(
        dpo,
        reference=jnp.float32(-1.0),
        preferred=(jnp.array([-0.3, -2.0]), jnp.array([True, True])),
        preferred_reference=jnp.float32(-2.0),
    ),
}


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


@pytest.mark.parametrize("objective", [token_mean_nll, *OBJECTIVES.values()])
def test_a_unit_without_tokens_has_loss_and_gradient_zero(objective):
    with jax.debug_nans(True):
        value, slope = jax.value_and_grad(lambda x: objective(x, jnp.zeros(3, bool)))(jnp.full(3, -1.0))
    assert value == 0
    np.testing.assert_array_equal(slope, np.zeros(3))


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))
def test_descending_any_objective_makes_the_target_rarer(objective):
    logits = jnp.array([1.0, 0.5, 0.0])
    slope = jax.grad(lambda x: objective(*nll_and_p(x)))(logits)
    assert token_mean_nll(*nll_and_p(logits - 0.1 * slope)) > token_mean_nll(*nll_and_p(logits))


# --- reductions -----------------------------------------------------------------------------------


def test_reductions_divide_as_the_lineage_does():
    np.testing.assert_allclose(nll(LOG_PROBS, MASK), [1.5, 2.0])
    np.testing.assert_allclose(
        nll(LOG_PROBS, MASK, reduction="seq_mean_padded", length=11), [4.5 / 10, 2.0 / 10]
    )
    np.testing.assert_allclose(nll(LOG_PROBS, MASK, reduction="div512"), [4.5 / 512, 2.0 / 512])
    np.testing.assert_allclose(ascent(LOG_PROBS, MASK, reduction="div512"), [-4.5 / 512, -2.0 / 512])


def test_unknown_reduction_and_missing_length_are_named():
    with pytest.raises(ValueError, match="token_mean, seq_mean_padded or div512, not 'mean'"):
        nll(LOG_PROBS, MASK, reduction="mean")
    for length in (None, 1):
        with pytest.raises(ValueError, match="padded length"):
            ascent(LOG_PROBS, MASK, reduction="seq_mean_padded", length=length)


@pytest.mark.parametrize("objective", [token_mean_nll, *OBJECTIVES.values()])
def test_what_is_masked_may_be_no_number(objective):
    broken = LOG_PROBS.at[1, 1:].set(-jnp.inf).at[0, 3].set(jnp.nan)
    value, slope = jax.value_and_grad(lambda x: jnp.sum(objective(x, MASK)))(broken)
    assert np.isfinite(value)
    np.testing.assert_array_equal(np.isfinite(slope), np.ones_like(MASK))


# --- npo ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_p", [0.0, -1e-6, -0.3, -5.0, -40.0, -2000.0])
@pytest.mark.parametrize("reference", [-0.01, -7.0, -60.0])
def test_npo_and_its_slope_match_float64(log_p, reference):
    some = jnp.array([True])
    value, slope = jax.value_and_grad(lambda x: npo(x[None], some, jnp.float32(reference), beta=0.5))(log_p)
    margin = 0.5 * (np.float64(np.float32(log_p)) - np.float64(np.float32(reference)))
    np.testing.assert_allclose(value, np.logaddexp(0, margin) * 4, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(slope, 2 * np.exp(-np.logaddexp(0, -margin)), rtol=1e-5, atol=1e-30)


def test_npo_starts_like_ascent_on_the_sum_and_does_not_move_its_reference():
    reference = log_likelihood(LOG_PROBS, MASK)
    slope = jax.grad(lambda x: jnp.sum(npo(x, MASK, log_likelihood(x, MASK))))(LOG_PROBS)
    np.testing.assert_allclose(slope, MASK.astype(np.float32), rtol=1e-6)
    np.testing.assert_allclose(npo(LOG_PROBS, MASK, reference), 20 * np.log(2), rtol=1e-6)


def test_npo_stops_by_itself_the_later_the_smaller_beta():
    slopes = [
        slope_at(functools.partial(npo, reference=jnp.zeros(()), beta=beta), -30.0)
        for beta in (1.0, 0.3, 0.03)
    ]
    assert slopes[0] < 1e-10
    assert slopes[0] < slopes[1] < 1e-3 < slopes[2]


def test_npo_stalls_at_certainty_as_ascent_does():
    start = jnp.float32(-3.0)
    assert slope_at(functools.partial(npo, reference=start), 10.0) < 2e-3
    value, slope = jax.value_and_grad(lambda x: npo(x[None], jnp.array([True]), start))(0.0)
    assert 1 < slope < 2
    assert np.isfinite(value)


# --- simnpo and dpo -------------------------------------------------------------------------------


@pytest.mark.parametrize("log_p", [0.0, -0.3, -5.0, -400.0])
def test_simnpo_and_its_slope_match_float64(log_p):
    value, slope = jax.value_and_grad(
        lambda x: simnpo(jnp.full(3, x), jnp.array([True, True, False]), beta=4.5, margin=0.5)
    )(jnp.float32(log_p))
    unlikely = 4.5 * (-np.float64(np.float32(log_p)) - 0.5)
    np.testing.assert_allclose(value, np.logaddexp(0, -unlikely) * 2 / 4.5, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(slope, 2 * np.exp(-np.logaddexp(0, unlikely)), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(("log_p", "chosen"), [(-4.0, -4.0), (-0.1, -9.0), (-80.0, -1.0), (0.0, -2000.0)])
def test_dpo_and_its_slopes_match_float64(log_p, chosen):
    some = jnp.array([True])

    def loss(log_p, chosen):
        references = jnp.float32(-3.0), jnp.float32(-2.0)
        return dpo(log_p[None], some, references[0], (chosen[None], some), references[1], beta=0.5)

    value, slopes = jax.value_and_grad(loss, (0, 1))(jnp.float32(log_p), jnp.float32(chosen))
    ahead = 0.5 * (np.float64(np.float32(chosen)) + 2.0 - (np.float64(np.float32(log_p)) + 3.0))
    np.testing.assert_allclose(value, np.logaddexp(0, -ahead) * 4, rtol=1e-5, atol=1e-30)
    slope = 2 * np.exp(-np.logaddexp(0, ahead))
    np.testing.assert_allclose(slopes, (slope, -slope), rtol=1e-5, atol=1e-30)


def test_dpo_starts_at_the_slope_of_npo():
    reference = log_likelihood(LOG_PROBS, MASK)
    preferred = jnp.full((2, 3), -1.0), jnp.ones((2, 3), bool)
    value, slope = jax.value_and_grad(
        lambda x: jnp.sum(dpo(x, MASK, reference, preferred, log_likelihood(*preferred)))
    )(LOG_PROBS)
    np.testing.assert_allclose(value, 2 * 20 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(slope, MASK.astype(np.float32), rtol=1e-6)


# --- unlikelihood at the ends, seen from the logits -------------------------------------------------


def test_unlikelihood_pushes_until_float32_cannot_tell_p_from_one():
    """The gradient of −log(1 − P) in the logits has norm √1.5 for two equal rivals, P → 1."""
    for margin in (6.0, 9.0, 11.0):
        assert slope_at(unlikelihood, margin) == pytest.approx(np.sqrt(1.5), rel=0.1)
    beyond = slope_at(unlikelihood, 40.0)
    assert np.isfinite(beyond)
    assert beyond < 1e-3


def test_nothing_cancels_in_a_long_unit_that_is_nearly_certain():
    """300 tokens of log-probability −1e-6: 1 − P is 3e-4, which float32 has to four digits if at all."""
    log_probs, mask = jnp.full(300, -1e-6), jnp.ones(300, bool)
    exact = -np.log(-np.expm1(300 * np.float64(np.float32(-1e-6))))
    np.testing.assert_allclose(unlikelihood(log_probs, mask), exact, rtol=1e-3)
