"""ε* in every k-th step: what is saved, what is kept, how near the rest comes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.optim import (
    Perturbation,
    RefreshedSamState,
    first_pass,
    logged,
    refresh_is_due,
    skip_nonfinite,
    targeted_sam,
)
from tests.optim import small_net
from tests.optim.small_net import flat


def every(count, rho=0.5, between="turned", neg_weight=1.0):
    return targeted_sam(rho, neg_weight, perturbation=Perturbation(refresh_every=count, between=between))


def zeros(params):
    return jax.tree.map(jnp.zeros_like, params)


def stepper(tx, f):
    """params, state → update with a retention gradient of zero."""
    return jax.jit(lambda params, state: tx.update(zeros(params), state, params, neg_grad_fn=f))


@pytest.mark.parametrize(("handed", "calls"), [(True, 3), (False, 10)])
def test_between_refreshes_the_second_gradient_is_not_computed(handed, calls):
    """Seven steps with k = 3: three at θ + ε*; each step one at θ, unless that one is handed over."""
    counted = []
    tx, params, (inputs, targets) = every(3), small_net.params(), small_net.rows()

    def f(p):
        jax.debug.callback(lambda: counted.append(1))
        return small_net.neg_grad(inputs, targets)(p)

    @jax.jit
    def step(state):
        extra = {"neg_grads": small_net.neg_grad(inputs, targets)(params)} if handed else {}
        return tx.update(zeros(params), state, params, neg_grad_fn=f, **extra)[1]

    state = tx.init(params)
    for _ in range(7):
        state = step(state)
    jax.effects_barrier()
    assert len(counted) == calls


def test_first_step_and_every_kth_are_exact():
    tx, exact, (inputs, targets) = every(3), targeted_sam(0.5, 1.0), small_net.rows()
    f, params = small_net.neg_grad(inputs, targets), small_net.params()
    state, differences = tx.init(params), []
    step, exact_step = stepper(tx, f), stepper(exact, f)
    for _ in range(7):
        updates, state = step(params, state)
        right, seen = exact_step(params, exact.init(params))
        differences.append(float(jnp.linalg.norm(flat(updates) - flat(right))))
        np.testing.assert_allclose(state.neg_grad_norm, seen.neg_grad_norm, rtol=1e-6)
        np.testing.assert_allclose(state.eps_norm, 0.5, rtol=1e-6)
        params = jax.tree.map(lambda p, u: p - 0.1 * u, params, updates)
    assert [difference < 1e-6 for difference in differences] == [True, False, False] * 2 + [True]


def test_where_nothing_changed_the_memory_is_exact():
    tx, params, (inputs, targets) = every(4), small_net.params(), small_net.rows()
    state, seen, step = tx.init(params), [], stepper(tx, small_net.neg_grad(inputs, targets))
    for _ in range(4):
        updates, state = step(params, state)
        seen.append(flat(updates))
    for later in seen[1:]:
        np.testing.assert_allclose(later, seen[0], rtol=1e-5, atol=1e-7)


def test_memory_scales_with_the_gradient_and_turns_with_it():
    """g = Sθ with θ on the second axis, then on the first and twice as long: h turns and doubles."""
    tx, scales = every(2, rho=0.1), jnp.array([1.0, 4.0])
    theta = jnp.array([0.0, 1.0])
    _, state = tx.update(jnp.zeros(2), tx.init(theta), theta, neg_grad_fn=lambda p: scales * p)
    np.testing.assert_allclose(state.memory.along, 0.4, rtol=1e-5)
    np.testing.assert_allclose(state.memory.across, np.zeros(2), atol=1e-6)
    theta = jnp.array([8.0, 0.0])
    updates, _ = tx.update(jnp.zeros(2), state, theta, neg_grad_fn=lambda p: scales * p)
    np.testing.assert_allclose(updates, [8.0 + 2 * 0.4, 0.0], rtol=1e-5)


def test_memory_comes_nearer_than_the_plain_gradient_while_training():
    tx, exact, (inputs, targets) = every(5), targeted_sam(0.5, 1.0), small_net.rows(64)
    f = small_net.neg_grad(inputs, targets)
    adam = optax.adam(3e-3)
    params = small_net.params()
    ours = plain = 0.0

    @jax.jit
    def step(params, state, adam_state):
        updates, state = tx.update(zeros(params), state, params, neg_grad_fn=f)
        right, _ = exact.update(zeros(params), exact.init(params), params, neg_grad_fn=f)
        moves, adam_state = adam.update(updates, adam_state, params)
        errors = [jnp.linalg.norm(flat(x) - flat(right)) for x in (updates, f(params))]
        return optax.apply_updates(params, moves), state, adam_state, errors

    state, adam_state = tx.init(params), adam.init(params)
    for _ in range(30):
        params, state, adam_state, (error, without) = step(params, state, adam_state)
        ours, plain = ours + error, plain + without
    assert ours < 0.3 * plain


def test_a_batch_without_negatives_is_a_plain_step_and_the_refresh_waits():
    """Case PA-06 between refreshes and at one."""
    tx, params, (inputs, targets) = every(2), small_net.params(), small_net.rows()
    ones = jax.tree.map(jnp.ones_like, params)

    def step(present, state):
        def f(p):
            return jax.tree.map(lambda g: present * g, small_net.neg_grad(inputs, targets)(p))

        return tx.update(ones, state, params, neg_grad_fn=f)

    step = jax.jit(step)
    with jax.debug_nans(True):
        updates, state = step(0.0, tx.init(params))  # due
        np.testing.assert_array_equal(flat(updates), 1)
        assert state.memory.left == 0
        _, state = step(1.0, state)  # so it happens here
        assert state.memory.left == 1
        updates, state = step(0.0, state)  # not due
    np.testing.assert_array_equal(flat(updates), 1)
    assert state.neg_grad_norm == 0


def test_runs_in_scan_with_donation_and_keeps_its_type():
    tx = optax.chain(every(3), optax.adamw(1e-2))
    params, (inputs, targets) = small_net.params(), small_net.rows()

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(
            zeros(params), state, params, neg_grad_fn=small_net.neg_grad(inputs, targets)
        )
        return (optax.apply_updates(params, updates), state), state[0].memory.left

    carry, left, compiled = (params, tx.init(params)), [], jax.jit(step)
    for _ in range(5):
        carry, remaining = compiled(carry, None)
        left.append(int(remaining))
    fresh = jax.tree.map(jnp.copy, (params, tx.init(params)))
    scanned, lefts = jax.jit(lambda c: jax.lax.scan(step, c, length=5), donate_argnums=0)(fresh)
    assert left == lefts.tolist() == [2, 1, 0, 2, 1]
    np.testing.assert_allclose(flat(scanned[0]), flat(carry[0]), rtol=1e-4, atol=1e-6)


def test_under_vmap_each_row_has_its_own_memory():
    tx, thetas = every(3), jnp.array([[1.0, 2.0], [-0.5, 0.3], [0.0, 0.0]])

    def two_steps(theta):
        state = tx.init(theta)
        for place in (theta, 0.9 * theta):
            updates, state = tx.update(jnp.zeros(2), state, place, neg_grad_fn=lambda p: jnp.sin(3 * p))
        return updates, state

    updates, states = jax.jit(jax.vmap(two_steps))(thetas)
    assert states.memory.left.tolist() == [1, 1, 0]
    for row, theta in enumerate(thetas):
        np.testing.assert_allclose(updates[row], jax.jit(two_steps)(theta)[0], rtol=1e-5, atol=1e-6)


def test_a_refresh_that_is_not_finite_is_forgotten():
    tx, params, (inputs, targets) = skip_nonfinite(every(3)), small_net.params(), small_net.rows()

    def step(fault, state):
        def f(p):
            away = jnp.any(p["b"] != params["b"])  # at θ + ε*
            g = small_net.neg_grad(inputs, targets)(p)
            return jax.tree.map(lambda x: jnp.where(away, x + fault, x), g)

        return tx.update(zeros(params), state, params, neg_grad_fn=f)

    step = jax.jit(step)
    updates, state = step(jnp.nan, tx.init(params))
    np.testing.assert_array_equal(flat(updates), 0)
    assert (state.skipped, state.inner_state.memory.left) == (1, 0)
    updates, state = step(0.0, state)
    assert (state.skipped, state.inner_state.memory.left) == (1, 2)
    assert jnp.all(jnp.isfinite(flat(updates)))
    assert jnp.any(updates["w"] != 0)


def test_a_kept_change_is_added_as_it_was():
    """g + h where h was seen elsewhere; and a retention gradient that has λ₁ g in it serves as well."""
    tx, params, (inputs, targets) = (
        every(3, between="kept", neg_weight=0.3),
        small_net.params(),
        small_net.rows(),
    )
    f, ones = small_net.neg_grad(inputs, targets), jax.tree.map(jnp.ones_like, params)
    first, state = tx.update(ones, tx.init(params), params, neg_grad_fn=f)
    exact, _ = targeted_sam(0.5, 0.3).update(ones, targeted_sam(0.5, 0.3).init(params), params, neg_grad_fn=f)
    np.testing.assert_allclose(flat(first), flat(exact), rtol=1e-6)
    moved = jax.tree.map(lambda p: 0.8 * p, params)
    updates, later = tx.update(ones, state, moved, neg_grad_fn=f)
    wanted = flat(first) + 0.3 * (flat(f(moved)) - flat(f(params)))
    np.testing.assert_allclose(flat(updates), wanted, rtol=1e-5, atol=1e-6)
    assert (later.memory.left, later.neg_grad_norm) == (1, state.neg_grad_norm)
    together = jax.tree.map(lambda one, g: one + 0.3 * g, ones, f(moved))
    again, other = tx.update(together, state, moved, neg_grad_fn=f, neg_grads=zeros(params), negatives=5)
    np.testing.assert_allclose(flat(again), flat(updates), rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, other, later)


@pytest.mark.parametrize("handed", [False, True])
def test_a_kept_change_is_not_added_where_a_batch_has_no_negatives(handed):
    """λ₁·0 exactly, and the log does not go on saying a norm; with negatives again, h is there again."""
    tx, params, (inputs, targets) = every(4, between="kept"), small_net.params(), small_net.rows()
    ones = jax.tree.map(jnp.ones_like, params)

    @jax.jit
    def step(present, state):
        def f(p):
            return jax.tree.map(lambda g: present * g, small_net.neg_grad(inputs, targets)(p))

        extra = {"neg_grads": f(params), "negatives": present} if handed else {}
        return tx.update(ones, state, params, neg_grad_fn=f, **extra)

    first, state = step(1.0, tx.init(params))
    norm = state.neg_grad_norm
    none, state = step(0.0, state)
    np.testing.assert_array_equal(flat(none), 1)
    assert (state.neg_grad_norm, state.memory.left) == (0, 2)
    again, state = step(1.0, state)
    np.testing.assert_allclose(flat(again), flat(first), rtol=1e-6)
    assert state.neg_grad_norm == norm


def test_a_joint_gradient_needs_the_number_of_negatives():
    tx, theta = every(2, between="kept"), jnp.ones(2)
    with pytest.raises(ValueError, match="needs `negatives`"):
        tx.update(theta, tx.init(theta), theta, neg_grad_fn=lambda p: p, neg_grads=theta)


def test_the_first_pass_is_joint_where_the_next_update_allows_it():
    kept, turned = every(2, between="kept"), Perturbation(refresh_every=2)
    how, theta = Perturbation(refresh_every=2, between="kept"), jnp.ones(2)
    state, called = kept.init(theta), []
    for _ in range(4):
        called.append(str(first_pass(state, how, apart=lambda: jnp.array(1), joint=lambda: jnp.array(2))))
        _, state = kept.update(theta, state, theta, neg_grad_fn=lambda p: p)
    assert called == ["1", "2", "1", "2"]
    for other in (turned, Perturbation(between="kept")):
        assert first_pass(state, other, apart=lambda: "apart", joint=lambda: "joint") == "apart"


def test_a_state_says_when_a_refresh_is_due():
    tx = skip_nonfinite(optax.chain(every(2, between="kept"), optax.adamw(1e-2)))
    params, (inputs, targets) = small_net.params(), small_net.rows()
    state, due, step = tx.init(params), [], stepper(tx, small_net.neg_grad(inputs, targets))
    for _ in range(4):
        due.append(bool(refresh_is_due(state)))
        _, state = step(params, state)
    assert due == [True, False, True, False]
    with pytest.raises(ValueError, match="refresh_every"):
        refresh_is_due(targeted_sam(0.5, 1.0).init(params))


def test_state_survives_orbax_and_names_its_metrics(tmp_path):
    from orbax.checkpoint import v1 as ocp

    tx, params, (inputs, targets) = every(3), small_net.params(), small_net.rows()
    _, state = stepper(tx, small_net.neg_grad(inputs, targets))(params, tx.init(params))
    ocp.save(tmp_path / "state", state)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    restored = ocp.load(tmp_path / "state", like)
    assert isinstance(restored, RefreshedSamState)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert set(logged(restored)) == {"neg_grad_norm", "eps_norm", "cosine"}
