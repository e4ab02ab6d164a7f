"""A step that is not finite changes nothing: parameters, momentum, decay and counts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.optim import logged, skip_nonfinite, targeted_sam

PARAMS = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array([3.0])}


def bowl_grad(p):
    return jax.tree.map(lambda x: 2 * x, p)


def make(*behind):
    behind = behind or (optax.adamw(1e-2, weight_decay=0.05),)
    return skip_nonfinite(optax.chain(targeted_sam(0.1, 0.3), *behind))


def broken_at_theta(p):
    return bowl_grad(p) | {"b": jnp.array([jnp.inf])}


def broken_nearby(p):
    """Sound at θ, no number at θ + ε*."""
    return jax.tree.map(lambda g, x, y: jnp.where(jnp.all(x == y), g, jnp.nan), bowl_grad(p), p, PARAMS)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


BEHIND = {
    "adamw": (optax.adamw(1e-2, weight_decay=0.05),),
    "clipped adamw": (optax.clip(1.0), optax.adamw(1e-2, weight_decay=0.05)),
    "momentum": (optax.trace(0.9), optax.scale(1e20)),
}
FAULTS = {
    "retention": (PARAMS | {"w": jnp.array([0.0, jnp.nan, 0.0])}, bowl_grad),
    "infinite retention": (PARAMS | {"b": jnp.array([-jnp.inf])}, bowl_grad),
    "at theta": (PARAMS, broken_at_theta),
    "nearby": (PARAMS, broken_nearby),
}
HUGE = (PARAMS, lambda p: jax.tree.map(lambda x: jnp.full_like(x, 1e38), p))


@pytest.mark.parametrize(
    ("behind", "fault"),
    [(behind, fault) for behind in BEHIND.values() for fault in FAULTS.values()]
    + [(BEHIND["adamw"], HUGE), (BEHIND["momentum"], HUGE)],
    ids=[f"{behind}, {fault}" for behind in BEHIND for fault in FAULTS]
    + ["adamw, second moment overflows", "momentum, update overflows"],
)
def test_nothing_moves(behind, fault):
    retain, f = fault
    tx = make(*behind)
    step = jax.jit(lambda s, r: tx.update(r, s, PARAMS, neg_grad_fn=f))
    sound = jax.jit(lambda s: tx.update(PARAMS, s, PARAMS, neg_grad_fn=bowl_grad))
    _, state = sound(tx.init(PARAMS))  # so that there is momentum
    assert state.skipped == 0
    updates, after = step(state, retain)
    same(optax.apply_updates(PARAMS, updates), PARAMS)
    same(after.inner_state, state.inner_state)
    assert (after.skipped, after.skipped_in_a_row) == (1, 1)


def test_the_run_goes_on_as_if_the_step_had_not_been():
    tx, plain = make(), optax.chain(targeted_sam(0.1, 0.3), optax.adamw(1e-2, weight_decay=0.05))

    def run(tx, faults):
        params, state = PARAMS, tx.init(PARAMS)

        @jax.jit
        def step(params, state, fault):
            retain = jax.tree.map(lambda x: x - 1 + fault, params)
            updates, state = tx.update(retain, state, params, neg_grad_fn=bowl_grad)
            return optax.apply_updates(params, updates), state

        rows = []
        for fault in faults:
            params, state = step(params, state, fault)
            rows.append({name: float(value) for name, value in logged(state).items()})
        return params, state, rows

    params, state, rows = run(tx, [0.0, jnp.nan, jnp.inf, 0.0, jnp.nan, 0.0])
    expected, expected_state, _ = run(plain, [0.0, 0.0, 0.0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, expected)
    assert state.inner_state[1][0].count == expected_state[1][0].count == 3
    assert [row["skipped"] for row in rows] == [0, 1, 2, 2, 3, 3]
    assert [row["skipped_in_a_row"] for row in rows] == [0, 1, 2, 0, 1, 0]
    assert all(np.isfinite(value) for row in rows for value in row.values())


def test_apply_if_finite_and_a_zero_update_are_not_enough():
    """Why the wrapper looks at what comes out, and around the whole chain."""
    outer = optax.apply_if_finite(optax.chain(targeted_sam(0.1, 0.3), optax.adamw(1e-2)), 5)
    updates, _ = outer.update(PARAMS, outer.init(PARAMS), PARAMS, neg_grad_fn=broken_nearby)
    assert not all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(updates))
    adamw = optax.adamw(1e-2, weight_decay=0.05)
    _, state = adamw.update(PARAMS, adamw.init(PARAMS), PARAMS)
    updates, _ = adamw.update(jax.tree.map(jnp.zeros_like, PARAMS), state, PARAMS)
    assert jnp.all(updates["w"] != 0)


def test_a_state_that_starts_out_infinite_is_no_reason_to_skip():
    tx = skip_nonfinite(optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()))
    state = tx.init(PARAMS)
    assert jnp.isinf(state.inner_state[1].best_value)
    updates, state = tx.update(PARAMS, state, PARAMS, value=1.0)
    assert (state.skipped, state.inner_state[1].best_value) == (0, 1.0)
    np.testing.assert_allclose(updates["b"], -0.3, rtol=1e-6)


def test_it_runs_under_vmap_each_row_for_itself():
    tx = skip_nonfinite(optax.adam(1e-2))
    grads = jnp.array([[1.0, 2.0], [jnp.nan, 2.0]])
    thetas = jnp.ones((2, 2))
    updates, state = jax.vmap(lambda g, p: tx.update(g, tx.init(p), p))(grads, thetas)
    assert state.skipped.tolist() == [0, 1]
    assert jnp.all(updates[0] != 0)
    np.testing.assert_array_equal(updates[1], [0.0, 0.0])
    assert state.inner_state[0].count.tolist() == [1, 0]


def test_op_05_clipping_to_zero_length_gives_no_nan():
    tx = make(optax.clip_by_global_norm(0.0))
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS, neg_grad_fn=lambda p: zeros)
    same(updates, zeros)


def test_state_survives_orbax(tmp_path):
    from orbax.checkpoint import v1 as ocp

    tx = make()
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS, neg_grad_fn=broken_nearby)
    ocp.save(tmp_path / "state", state)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    restored = ocp.load(tmp_path / "state", like)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    same(restored, state)
