"""Targeted-SAM before other transforms: what a run with it does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sare_jax.optim import targeted_sam

HESSIAN = jnp.array([[3.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 1.0]])
THETA = jnp.array([1.0, -2.0, 0.5])


def quadratic_grad(theta):
    return HESSIAN @ theta


def zeros_like(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def test_clipping_behind_it_acts_on_the_sum():
    tx = optax.chain(targeted_sam(0.5, 1.0), optax.clip_by_global_norm(1.0))
    updates, state = tx.update(THETA, tx.init(THETA), THETA, neg_grad_fn=lambda p: 1e3 * quadratic_grad(p))
    np.testing.assert_allclose(jnp.linalg.norm(updates), 1.0, rtol=1e-6)
    np.testing.assert_allclose(state[0].eps_norm, 0.5, rtol=1e-6)


def test_stands_before_partition_where_a_frozen_leaf_stays():
    """Case OP-06: bit-equal after 100 steps without gradient or decay; the trained leaf does decay."""
    params = {"trained": THETA, "frozen": THETA}
    tx = optax.chain(
        targeted_sam(0.05, 0.3, mask={"trained": True, "frozen": False}),
        optax.partition(
            {"adamw": optax.adamw(0.1, weight_decay=0.05), "none": optax.set_to_zero()},
            {"trained": "adamw", "frozen": "none"},
        ),
    )

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(zeros_like(params), state, params, neg_grad_fn=zeros_like)
        return (optax.apply_updates(params, updates), state), None

    (after, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=100)
    np.testing.assert_array_equal(after["frozen"], THETA)
    np.testing.assert_allclose(after["trained"], THETA * (1 - 0.1 * 0.05) ** 100, rtol=1e-4)


def test_op_02_without_radius_it_is_sgd():
    theta, visited = jnp.array(1.0), []
    tx = optax.chain(targeted_sam(0.0, 1.0), optax.sgd(0.1))
    state = tx.init(theta)
    for _ in range(3):
        updates, state = tx.update(jnp.zeros(()), state, theta, neg_grad_fn=lambda x: x)
        theta = optax.apply_updates(theta, updates)
        visited.append(float(theta))
    np.testing.assert_allclose(visited, [0.9, 0.81, 0.729], rtol=1e-6)


def test_op_11_the_mean_logged_length_of_eps_is_rho():
    tx = optax.chain(targeted_sam(0.07, 0.3), optax.adamw(1e-2))

    def step(carry, _):
        theta, state = carry
        updates, state = tx.update(theta - 1.0, state, theta, neg_grad_fn=quadratic_grad)
        return (optax.apply_updates(theta, updates), state), state[0].eps_norm

    _, lengths = jax.lax.scan(step, (THETA, tx.init(THETA)), length=30)
    np.testing.assert_allclose(lengths.mean(), 0.07, rtol=1e-6)
