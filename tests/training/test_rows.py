"""Losses of several units in one row against the same units one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.objectives.ascent import ascent_loss
from sare_jax.objectives.likelihood import token_mean_nll
from sare_jax.objectives.npo import npo_loss
from sare_jax.objectives.unlikelihood import unlikelihood_loss
from sare_jax.training.rows import Units, as_rows, count_units, mean_over_units

LOG_PROBS = -jnp.exp(jax.random.normal(jax.random.key(0), (3, 9)))
# Row 0: two units that overlap and one apart; row 1: one; row 2: none.
START = np.array([[1, 2, 6], [0, 4, 4], [0, 0, 0]])
END = np.array([[3, 5, 9], [7, 4, 4], [0, 0, 0]])
WEIGHT = jnp.array([[1.0, 2.0, 0.5], [3.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
ROWS = as_rows(
    "neg",
    {
        "tokens": jnp.zeros((3, 10), int),
        "positions": jnp.zeros((3, 9), int),
        "targets": jnp.zeros((3, 9), int),
        "units": {"neg": {"start": START, "end": END, "by_unit": {"weight": WEIGHT}}},
    },
)
UNITS = ROWS.units["neg"]
COUNT = count_units({"rows": ROWS})["neg"]
REAL = [(0, 0), (0, 1), (0, 2), (1, 0)]
OBJECTIVES = {
    "token_mean_nll": token_mean_nll,
    "ascent": ascent_loss,
    "unlikelihood": unlikelihood_loss,
    "npo": functools.partial(
        npo_loss, reference=jnp.array([[-1.0, -2.0, -3.0], [-9.0, 7.0, 7.0], [7.0, 7.0, 7.0]])
    ),
}


def set_loss(log_probs, units, objective, count):
    return mean_over_units(objective(log_probs[:, None], units.mask), units, count)


def one_by_one(log_probs, objective):
    """The mean over units, each cut out of its row and run alone."""
    total = 0.0
    for row, unit in REAL:
        piece = log_probs[row, START[row, unit] : END[row, unit]]
        alone = objective
        if isinstance(objective, functools.partial):
            alone = functools.partial(npo_loss, reference=objective.keywords["reference"][row, unit])
        total += WEIGHT[row, unit] * alone(piece, jnp.ones(len(piece), bool))
    return total / len(REAL)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))
def test_rows_equal_units_one_by_one_with_their_gradients(objective):
    value, slope = jax.jit(jax.value_and_grad(lambda x: set_loss(x, UNITS, objective, COUNT)))(LOG_PROBS)
    expected, expected_slope = jax.jit(jax.value_and_grad(lambda x: one_by_one(x, objective)))(LOG_PROBS)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-5, atol=1e-7)


def test_pa_05_parts_of_a_batch_add_up_to_the_mean_over_all_its_units():
    """Row 0 has three units and row 1 one: a mean of row means would be another number."""
    assert COUNT == 4
    shares = []
    for row in range(3):
        part = jax.tree.map(lambda x, row=row: x[row : row + 1], UNITS)
        shares.append(set_loss(LOG_PROBS[row : row + 1], part, ascent_loss, COUNT))
    np.testing.assert_allclose(sum(shares), set_loss(LOG_PROBS, UNITS, ascent_loss, COUNT), rtol=1e-6)
    losses = [ascent_loss(LOG_PROBS[row], UNITS.mask[row, unit]) for row, unit in REAL]
    alike = UNITS._replace(by_unit={})
    np.testing.assert_allclose(set_loss(LOG_PROBS, alike, ascent_loss, COUNT), np.mean(losses), rtol=1e-6)


def test_pa_06_a_set_without_units_has_loss_and_gradient_zero():
    none = Units(jnp.zeros((3, 2, 9), bool), {"weight": jnp.full((3, 2), jnp.nan)})
    for objective in (token_mean_nll, ascent_loss, unlikelihood_loss):
        value, slope = jax.value_and_grad(
            lambda x, objective=objective: set_loss(x, none, objective, jnp.zeros(()))
        )(LOG_PROBS)
        assert value == 0
        np.testing.assert_array_equal(slope, np.zeros((3, 9)))


def test_sets_that_are_not_there_have_no_units():
    assert {kind: float(count) for kind, count in count_units({"rows": ROWS}).items()} == {
        "neg": 4.0,
        "pos": 0.0,
        "sent": 0.0,
    }
