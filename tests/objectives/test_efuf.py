"""EFUF's schedules and sample weights against the numbers of its public code (protocols.md 1.6)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.objectives.efuf import EFUF, neg_schedule, pos_schedule, score_weights
from sare_jax.optim import targeted_sam


def linear(start, end, first, last, step):
    """Weight of a step under EFUF's linear scheduler."""
    share = (step - first) / (last - first)
    return start + (end - start) * min(max(share, 0.0), 1.0)


@pytest.mark.parametrize("steps", [1, 7, 25, 30_000])
def test_schedules_are_those_of_the_public_code(steps):
    pos, neg = pos_schedule(steps), neg_schedule(steps)
    for step in {0, 1, steps // 3, int(0.4 * steps), int(0.4 * steps) + 1, steps - 1, steps, steps + 5}:
        np.testing.assert_allclose(pos(step), linear(1.0, 0.5, 0, steps, step), rtol=1e-6)
        np.testing.assert_allclose(
            neg(step), linear(0.3, 0.0, 0.4 * steps, steps, step), rtol=1e-5, atol=1e-7
        )
    assert neg(steps) == 0


def test_scores_weigh_samples():
    scores = jnp.array([18.0, 22.5, 33.0])
    np.testing.assert_array_equal(score_weights("pos", scores), scores)
    np.testing.assert_array_equal(score_weights("sent", scores), scores)
    np.testing.assert_array_equal(score_weights("neg", scores), [37.0, 32.5, 22.0])
    assert (EFUF.sent_weight, EFUF.neg_weight) == (0.2, 0.3)


def test_op_15_a_schedule_counts_optimizer_steps_not_micro_batches():
    """100 batches in fours are 25 steps, after which λ₁ has reached its end, and not before."""
    steps = 100 // 4
    tx = optax.chain(
        optax.inject_hyperparams(targeted_sam)(rho=0.05, neg_weight=neg_schedule(steps)), optax.adam(1e-3)
    )
    batches = jax.random.normal(jax.random.key(0), (steps, 4, 8, 3))
    theta = jnp.ones(3)

    def one(carry, parts):
        theta, state = carry

        def accumulated(p):
            def add(total, rows):
                return total + jax.grad(lambda p: jnp.mean(jnp.tanh(rows @ p)))(p), None

            return jax.lax.scan(add, jnp.zeros(3), parts)[0] / len(parts)

        updates, state = tx.update(jnp.zeros(3), state, theta, neg_grad_fn=accumulated)
        return (optax.apply_updates(theta, updates), state), state[0].hyperparams["neg_weight"]

    (_, state), weights = jax.lax.scan(one, (theta, tx.init(theta)), batches)
    assert state[0].count == state[1][0].count == steps
    np.testing.assert_allclose(weights[:11], 0.3, rtol=1e-6)
    np.testing.assert_allclose(weights[24], 0.3 / 15, rtol=1e-4)
    assert weights[11] < 0.3
    assert neg_schedule(steps)(state[0].count) == 0


def test_a_run_without_steps_is_refused():
    for schedule in (pos_schedule, neg_schedule):
        with pytest.raises(ValueError, match="at least 1 optimizer step"):
            schedule(0)
