"""Losses of several units in one row against the same units one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.optim.objectives import ascent, npo, token_mean_nll, unlikelihood
from sare_jax.optim.rows import Units, count_units, row_losses, set_loss, spans, token_weights

LOG_PROBS = -jnp.exp(jax.random.normal(jax.random.key(0), (3, 9)))
# Row 0: two units that overlap and one apart; row 1: one; row 2: none.
START = jnp.array([[1, 2, 6], [0, 4, 4], [0, 0, 0]])
END = jnp.array([[3, 5, 9], [7, 4, 4], [0, 0, 0]])
WEIGHT = jnp.array([[1.0, 2.0, 0.5], [3.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
UNITS = Units(spans(START, END, 9), WEIGHT)
REAL = [(0, 0), (0, 1), (0, 2), (1, 0)]
OBJECTIVES = {
    "token_mean_nll": token_mean_nll,
    "ascent": ascent,
    "unlikelihood": unlikelihood,
    "npo": functools.partial(
        npo, reference=jnp.array([[-1.0, -2.0, -3.0], [-9.0, 7.0, 7.0], [7.0, 7.0, 7.0]])
    ),
}


def one_by_one(log_probs, objective):
    """The mean over units, each cut out of its row and run alone."""
    total = 0.0
    for row, unit in REAL:
        piece = log_probs[row, START[row, unit] : END[row, unit]]
        alone = objective
        if isinstance(objective, functools.partial):
            alone = functools.partial(npo, reference=objective.keywords["reference"][row, unit])
        total += WEIGHT[row, unit] * alone(piece, jnp.ones(len(piece), bool))
    return total / len(REAL)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))
def test_rows_equal_units_one_by_one_with_their_gradients(objective):
    def packed(log_probs):
        return set_loss(log_probs, UNITS, objective, count_units(UNITS))

    value, slope = jax.value_and_grad(packed)(LOG_PROBS)
    expected, expected_slope = jax.value_and_grad(lambda x: one_by_one(x, objective))(LOG_PROBS)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-5, atol=1e-7)


def test_weights_of_overlapping_targets_add():
    weights = token_weights(UNITS, count_units(UNITS))
    np.testing.assert_allclose(
        weights[0], np.array([0, 1 / 2, 1 / 2 + 2 / 3, 2 / 3, 2 / 3, 0, 1 / 6, 1 / 6, 1 / 6]) / 4, rtol=1e-6
    )
    np.testing.assert_array_equal(weights[2], np.zeros(9))
    np.testing.assert_allclose(
        -jnp.sum(weights * LOG_PROBS),
        set_loss(LOG_PROBS, UNITS, token_mean_nll, count_units(UNITS)),
        rtol=1e-6,
    )


def test_pa_05_parts_of_a_batch_add_up_to_the_mean_over_all_its_units():
    """Row 0 has three units and row 1 one: a mean of row means would be another number."""
    count = count_units(UNITS)
    assert count == 4
    shares = [
        set_loss(
            LOG_PROBS[row : row + 1], jax.tree.map(lambda x, row=row: x[row : row + 1], UNITS), ascent, count
        )
        for row in range(3)
    ]
    whole = set_loss(LOG_PROBS, UNITS, ascent, count)
    np.testing.assert_allclose(sum(shares), whole, rtol=1e-6)
    equal = Units(UNITS.mask, jnp.ones_like(WEIGHT))
    losses = [ascent(LOG_PROBS[row], UNITS.mask[row, unit]) for row, unit in REAL]
    np.testing.assert_allclose(set_loss(LOG_PROBS, equal, ascent, count), np.mean(losses), rtol=1e-6)


def test_pa_06_a_set_without_units_has_loss_and_gradient_zero():
    none = Units(jnp.zeros((3, 2, 9), bool), jnp.full((3, 2), jnp.nan))
    for objective in (token_mean_nll, ascent, unlikelihood):
        value, slope = jax.value_and_grad(
            lambda x, objective=objective: set_loss(x, none, objective, count_units(none))
        )(LOG_PROBS)
        assert value == 0
        np.testing.assert_array_equal(slope, np.zeros((3, 9)))
    np.testing.assert_array_equal(token_weights(none, count_units(none)), np.zeros((3, 9)))


def test_all_losses_come_from_one_row():
    apart = Units(spans(START[:, 2:], END[:, 2:], 9), jnp.ones((3, 1)))
    sets = {"neg": UNITS, "pos": apart, "sent": Units(UNITS.mask[:, :1], WEIGHT[:, :1])}
    counts = {name: count_units(units) for name, units in sets.items()}
    losses = row_losses(LOG_PROBS, sets, counts, unlikelihood)
    assert set(losses) == {"neg", "pos", "sent", "neg_ft"}
    np.testing.assert_allclose(losses["neg"], one_by_one(LOG_PROBS, unlikelihood), rtol=1e-5)
    np.testing.assert_allclose(losses["pos"], token_mean_nll(LOG_PROBS[0], UNITS.mask[0, 2]), rtol=1e-6)
    np.testing.assert_allclose(losses["neg_ft"], one_by_one(LOG_PROBS, token_mean_nll), rtol=1e-5)
    slope = jax.grad(lambda x: row_losses(x, sets, counts, unlikelihood)["neg_ft"])(LOG_PROBS)
    np.testing.assert_array_equal(slope, np.zeros((3, 9)))  # watched, not trained
    assert set(row_losses(LOG_PROBS, {"pos": apart}, counts, ascent)) == {"pos"}
