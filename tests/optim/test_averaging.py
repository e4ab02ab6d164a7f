"""Weight averages against the written-out means of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.optim import averaged_params, exponential_average, skip_nonfinite, targeted_sam, uniform_average

THETA = {"w": jnp.array([1.0, -2.0]), "h": jnp.array([0.5], jnp.bfloat16)}


def run(average, steps, params=THETA, wrap=lambda tx: tx):
    """Parameters after each step, and the last state."""
    tx = wrap(optax.chain(targeted_sam(0.1, 0.3), optax.adam(0.1), average))
    state, visited = tx.init(params), []

    @jax.jit
    def step(params, state):
        updates, state = tx.update(params, state, params, neg_grad_fn=lambda p: p)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
        visited.append(params)
    return visited, state


@pytest.mark.parametrize(("start", "every", "steps"), [(1, 1, 4), (3, 2, 8), (2, 5, 2), (5, 1, 3)])
def test_uniform_average_is_the_mean_of_the_chosen_steps(start, every, steps):
    visited, state = run(uniform_average(start=start, every=every), steps)
    chosen = visited[start - 1 :: every] or visited[-1:]  # before the start it follows
    found = averaged_params(state, visited[-1])
    np.testing.assert_allclose(found["w"], np.mean([p["w"] for p in chosen], 0), rtol=1e-5)
    assert found["h"].dtype == jnp.bfloat16
    assert state[-1].average["h"].dtype == jnp.float32


def test_exponential_average_is_the_recursion():
    visited, state = run(exponential_average(0.8), 5)
    expected = np.asarray(THETA["w"])
    for params in visited:
        expected = 0.8 * expected + 0.2 * np.asarray(params["w"])
    np.testing.assert_allclose(averaged_params(state, THETA)["w"], expected, rtol=1e-5)


def test_updates_pass_unchanged():
    with_average, _ = run(uniform_average(start=1), 3)
    without, _ = run(optax.identity(), 3)
    np.testing.assert_array_equal(with_average[-1]["w"], without[-1]["w"])


def test_it_is_found_inside_skipping_where_a_skipped_step_does_not_count():
    visited, state = run(uniform_average(start=1), 3, wrap=skip_nonfinite)
    np.testing.assert_allclose(
        averaged_params(state, THETA)["w"], np.mean([p["w"] for p in visited], 0), rtol=1e-5
    )
    tx = skip_nonfinite(optax.chain(optax.sgd(0.1), exponential_average(0.5)))
    bad = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), THETA)
    _, state = tx.update(bad, tx.init(THETA), THETA)
    assert state.inner_state[-1].steps == 0
    np.testing.assert_array_equal(averaged_params(state, THETA)["w"], THETA["w"])


def test_the_first_average_does_not_share_a_buffer_with_the_parameters():
    tx = uniform_average(start=2)
    params = jnp.ones(3)
    state = tx.init(params)
    jax.jit(lambda p: p + 1, donate_argnums=0)(params)
    np.testing.assert_array_equal(averaged_params(state, jnp.ones(3)), np.ones(3))


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="start and every"):
        uniform_average(start=0)
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        exponential_average(1.0)
    tx = exponential_average(0.9)
    with pytest.raises(ValueError, match="params"):
        tx.update(THETA, tx.init(THETA))
    with pytest.raises(ValueError, match="holds 0 averages"):
        averaged_params(optax.adam(1.0).init(THETA), THETA)
