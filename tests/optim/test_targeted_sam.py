"""targeted_sam against closed forms, naive loops, and everything optax and jax wrap around it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.optim import TargetedSamState, targeted_sam

HESSIAN = jnp.array([[3.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 1.0]])
THETA = jnp.array([1.0, -2.0, 0.5])


def quadratic_grad(theta):
    return HESSIAN @ theta


def once(params, retain, f, *, rho=0.05, neg_weight=1.0, mask=None, **extra):
    tx = targeted_sam(rho, neg_weight, mask=mask)
    return tx.update(retain, tx.init(params), params, neg_grad_fn=f, **extra)


def zeros_like(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def assert_close(actual, expected, rtol=1e-6, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), actual, expected)


# --- the equation ---------------------------------------------------------------------------------


def test_quadratic_has_the_closed_form():
    updates, state = once(THETA, jnp.zeros(3), quadratic_grad, rho=0.2)
    g = quadratic_grad(THETA)
    norm = jnp.linalg.norm(g)
    expected = g + 0.2 * HESSIAN @ g / norm
    assert_close(updates, expected)
    assert_close(state.neg_grad_norm, norm)
    assert_close(state.eps_norm, 0.2)
    assert_close(state.cosine, g @ expected / norm / jnp.linalg.norm(expected))


def op10():
    """Case OP-10: L_neg = (a²+b²)/2, L_pos = a²/2, L_sent = b at θ = (3, 4), in two leaves."""
    params = {"a": jnp.array(3.0), "b": jnp.array(4.0)}
    retain = jax.grad(lambda p: 0.5 * p["a"] ** 2 + 0.2 * p["b"])(params)
    return params, retain, jax.grad(lambda p: 0.5 * (p["a"] ** 2 + p["b"] ** 2))


def test_retention_uses_theta_and_the_norm_is_global():
    params, retain, f = op10()
    updates, _ = once(params, retain, f, rho=0.05, neg_weight=0.3)
    assert_close(updates, {"a": 3.909, "b": 1.412})


def test_equals_the_naive_four_calls_over_twenty_steps():
    key = jax.random.key(0)
    inputs = jax.random.normal(key, (16, 4))
    params = {"w": 0.3 * jax.random.normal(key, (4, 4)), "v": jnp.ones((4,))}

    def loss(p, rows):
        return jnp.mean((jnp.tanh(rows @ p["w"]) @ p["v"] - 1.0) ** 2)

    neg, pos, sent = (
        (lambda p: -loss(p, inputs[:5])),
        (lambda p: loss(p, inputs[5:9])),
        (lambda p: loss(p, inputs[9:])),
    )
    tx = optax.chain(targeted_sam(0.1, 0.3), optax.adamw(1e-2, weight_decay=0.05))
    naive = optax.adamw(1e-2, weight_decay=0.05)

    @jax.jit
    def step(params, state):
        retain = jax.grad(lambda p: pos(p) + 0.2 * sent(p))(params)
        updates, state = tx.update(retain, state, params, neg_grad_fn=jax.grad(neg))
        return optax.apply_updates(params, updates), state

    @jax.jit
    def naive_step(params, state):
        g_neg = jax.grad(neg)(params)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(g_neg)))
        moved = jax.tree.map(lambda p, g: p + 0.1 * g / norm, params, g_neg)
        calls = (jax.grad(neg)(moved), jax.grad(pos)(params), jax.grad(sent)(params))
        g = jax.tree.map(lambda n, p, s: 0.3 * n + p + 0.2 * s, *calls)
        updates, state = naive.update(g, state, params)
        return optax.apply_updates(params, updates), state

    ours, theirs = (params, tx.init(params)), (params, naive.init(params))
    for _ in range(20):
        ours, theirs = step(*ours), naive_step(*theirs)
    assert_close(ours[0], theirs[0], rtol=1e-5)


def test_rho_zero_is_the_weighted_sum_bit_for_bit():
    params, retain, f = op10()

    @jax.jit
    def plain(p, r):
        return jax.tree.map(lambda g, keep: 0.3 * g + keep, f(p), r)

    sam = jax.jit(lambda p, r: once(p, r, f, rho=0.0, neg_weight=0.3)[0])
    jax.tree.map(np.testing.assert_array_equal, sam(params, retain), plain(params, retain))


def test_eps_makes_the_erased_likelier_and_the_step_makes_it_rarer():
    """Case OP-12, with L_neg = −L_ft: the sign of ε* and the sign of the step."""
    logits = jnp.array([0.5, -0.2, 0.1])

    def nll(theta):
        return -jax.nn.log_softmax(theta)[0]

    seen = []

    def f(theta):
        seen.append(theta)
        return jax.grad(lambda t: -nll(t))(theta)

    updates, state = once(logits, jnp.zeros(3), f, rho=1e-2)
    fall = nll(logits) - nll(seen[1])
    np.testing.assert_allclose(fall, 1e-2 * state.neg_grad_norm, rtol=2e-2)
    assert nll(logits - 0.1 * updates) > nll(logits)
    retained, _ = once(logits, jax.grad(nll)(logits), f, neg_weight=0.0)
    assert nll(logits - 0.1 * retained) < nll(logits)


@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e12])
def test_eps_does_not_depend_on_the_scale_of_the_loss(factor):
    """Case OP-07."""
    seen = []

    def f(theta):
        seen.append(theta)
        return factor * quadratic_grad(theta)

    _, state = once(THETA, jnp.zeros(3), f, rho=0.5)
    _, plain = once(THETA, jnp.zeros(3), quadratic_grad, rho=0.5)
    g = quadratic_grad(THETA)
    np.testing.assert_allclose(seen[1], THETA + 0.5 * g / jnp.linalg.norm(g), rtol=1e-6)
    np.testing.assert_allclose(state.cosine, plain.cosine, rtol=1e-6)


def test_second_gradient_is_gradient_plus_rho_hessian_vector_product_to_second_order():
    def loss(theta):
        return jnp.sum(jnp.sin(theta) * theta**2)

    with jax.enable_x64(True):
        theta = jnp.array([0.3, -0.8, 1.1])
        g = jax.grad(loss)(theta)
        _, product = jax.jvp(jax.grad(loss), (theta,), (g / jnp.linalg.norm(g),))
        errors = []
        for rho in (1e-1, 1e-2, 1e-3):
            updates, _ = once(theta, jnp.zeros(3), jax.grad(loss), rho=rho)
            errors.append(float(jnp.linalg.norm(updates - g - rho * product)))
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.2)


# --- zero, tiny, huge, narrow ---------------------------------------------------------------------


def test_zero_gradient_is_a_plain_step():
    """Cases OP-01 and OP-14."""
    params = {"w": jnp.ones((2, 3)), "empty": jnp.zeros((0, 4))}
    retain = jax.tree.map(jnp.ones_like, params)
    with jax.debug_nans(True):
        step = jax.jit(lambda p, r: once(p, r, zeros_like))
        updates, state = step(params, retain)
        slope = jax.jit(jax.grad(lambda p: jnp.sum(once(p, retain, zeros_like)[0]["w"])))(params)
    jax.tree.map(np.testing.assert_array_equal, updates, retain)
    assert tuple(state) == (0, 0, 0)
    assert jnp.all(jnp.isfinite(slope["w"]))


@pytest.mark.parametrize(
    ("dtype", "size", "norm"),
    [
        (jnp.float16, 300.0, 600.0),
        (jnp.float32, 1e-25, 2e-25),
        (jnp.float32, 1e30, 2e30),
        (jnp.bfloat16, 1e30, 2e30),
    ],
)
def test_norm_neither_overflows_nor_underflows(dtype, size, norm):
    """Case OP-04."""
    params = jnp.ones(4, dtype)
    with jax.debug_nans(True), jax.debug_infs(True):
        updates, state = jax.jit(lambda p: once(p, jnp.zeros(4, dtype), lambda x: jnp.full(4, size, dtype)))(
            params
        )
    np.testing.assert_allclose(state.neg_grad_norm, norm, rtol=1e-2)
    # Of what a narrow tree holds once ε* is added.
    moved = np.asarray(jnp.full(4, 1 + 0.025, dtype), np.float32)
    added = 0.05 if dtype == jnp.float32 else np.linalg.norm(moved - 1)
    np.testing.assert_allclose(state.eps_norm, added, rtol=1e-6)
    assert jnp.all(jnp.isfinite(updates))


def test_subnormal_gradient_counts_as_zero():
    updates, state = once(jnp.ones(3), jnp.ones(3), lambda p: jnp.full(3, 1e-40))
    np.testing.assert_array_equal(updates, jnp.ones(3))
    assert state.eps_norm == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_trees_keep_their_dtype_and_a_wide_norm(dtype):
    params = {"w": jnp.full((4096,), 2.0, dtype), "b": jnp.ones((), jnp.float32)}
    f = jax.grad(lambda p: 0.5 * jnp.sum(p["w"].astype(jnp.float32) ** 2) + p["b"])
    updates, state = once(params, zeros_like(params), f, rho=64.0)
    assert jax.tree.map(lambda x: x.dtype, updates) == jax.tree.map(lambda x: x.dtype, params)
    np.testing.assert_allclose(state.neg_grad_norm, np.sqrt(4 * 4096 + 1), rtol=1e-6)
    np.testing.assert_allclose(updates["w"].astype(jnp.float32), 3.0, rtol=1e-2)


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask",
    [{"a": True, "b": False}, lambda params: {name: name == "a" for name in params}],
    ids=["tree", "callable"],
)
def test_mask_limits_perturbation_and_norm_only(mask):
    params, retain, f = op10()
    updates, state = once(params, retain, f, rho=0.05, neg_weight=0.3, mask=mask)
    assert_close(updates, {"a": 3.0 + 0.3 * 3.05, "b": 0.2 + 0.3 * 4.0})
    assert state.neg_grad_norm == 3.0
    assert_close(state.cosine, 1.0)


def test_mask_may_be_a_prefix():
    params = {"moved": {"x": jnp.array(3.0), "y": jnp.array(4.0)}, "held": jnp.array(5.0)}
    f = jax.grad(lambda p: 0.5 * (p["moved"]["x"] ** 2 + p["moved"]["y"] ** 2 + p["held"] ** 2))
    updates, state = once(params, zeros_like(params), f, rho=0.05, mask={"moved": True, "held": False})
    assert state.neg_grad_norm == 5.0
    assert_close(updates, {"moved": {"x": 3.03, "y": 4.04}, "held": 5.0})


def test_inside_masked_is_a_clear_error():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    inner = targeted_sam(0.05, 0.3)
    with pytest.raises(ValueError, match=r"MaskedNode.*outside of optax\.masked"):
        optax.masked(inner, {"a": True, "b": False}).init(params)
    masked = {"a": jnp.ones(2), "b": optax.MaskedNode()}
    with pytest.raises(ValueError, match="MaskedNode"):
        inner.update(masked, inner.init(params), masked, neg_grad_fn=lambda p: p)


def test_forgotten_arguments_and_negative_rho_are_named():
    tx = targeted_sam(0.05, 0.3)
    state = tx.init(THETA)
    with pytest.raises(ValueError, match="neg_grad_fn"):
        tx.update(THETA, state, THETA)
    with pytest.raises(ValueError, match="params"):
        tx.update(THETA, state, neg_grad_fn=quadratic_grad)
    with pytest.raises(ValueError, match="rho"):
        targeted_sam(-0.1, 0.3)


# --- what optax and jax wrap around it ------------------------------------------------------------


def test_neg_grads_handed_over_save_a_call():
    calls = []

    def f(theta):
        calls.append(theta)
        return quadratic_grad(theta)

    with_hand, _ = once(THETA, THETA, f, neg_grads=quadratic_grad(THETA))
    assert len(calls) == 1
    without, _ = once(THETA, THETA, f)
    assert len(calls) == 3
    np.testing.assert_array_equal(with_hand, without)


def test_chain_passes_extra_arguments_meant_for_others():
    tx = optax.chain(targeted_sam(0.05, 0.3), optax.polyak_sgd(max_learning_rate=0.1))
    updates, _ = tx.update(THETA, tx.init(THETA), THETA, neg_grad_fn=quadratic_grad, value=100.0)
    g, _ = once(THETA, THETA, quadratic_grad, neg_weight=0.3)
    np.testing.assert_allclose(updates, -0.1 * g, rtol=1e-6)
    alone, _ = once(THETA, THETA, quadratic_grad, neg_weight=0.3, value=100.0)
    np.testing.assert_array_equal(alone, g)


def test_hyperparameters_can_be_injected_and_scheduled():
    injected = optax.inject_hyperparams(targeted_sam, static_args="mask")
    tx = optax.chain(injected(rho=0.2, neg_weight=optax.linear_schedule(1.0, 0.0, 2)), optax.sgd(1.0))
    state = tx.init(THETA)
    step = jax.jit(lambda s, p: tx.update(jnp.zeros(3), s, p, neg_grad_fn=quadratic_grad))
    full, _ = once(THETA, jnp.zeros(3), quadratic_grad, rho=0.2)
    for weight in (1.0, 0.5, 0.0):
        updates, state = step(state, THETA)
        np.testing.assert_allclose(updates, -weight * full, rtol=1e-6)
    state[0].hyperparams["rho"] = jnp.asarray(0.4, jnp.float32)
    _, state = step(state, THETA)
    np.testing.assert_allclose(state[0].inner_state.eps_norm, 0.4, rtol=1e-6)


def test_compiles_once_and_the_state_keeps_its_type():
    tx = optax.chain(targeted_sam(0.05, 0.3), optax.adamw(1e-3))
    state, params, traces = tx.init(THETA), THETA, []

    @jax.jit
    def step(state, params):
        traces.append(1)
        updates, state = tx.update(params, state, params, neg_grad_fn=quadratic_grad)
        return state, optax.apply_updates(params, updates)

    before = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)
    for _ in range(4):
        state, params = step(state, params)
    assert len(traces) == 1
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state) == before
    assert all(x.dtype == jnp.float32 and not x.weak_type for x in state[0])


def test_vmap_gives_each_row_its_own_eps():
    thetas = jnp.stack([THETA, 3.0 * THETA, jnp.zeros(3)])
    updates, states = jax.vmap(lambda theta: once(theta, theta, quadratic_grad))(thetas)
    for row, theta in enumerate(thetas):
        single, state = once(theta, theta, quadratic_grad)
        np.testing.assert_allclose(updates[row], single, rtol=1e-6)
        np.testing.assert_allclose(states.neg_grad_norm[row], state.neg_grad_norm, rtol=1e-6)


def test_scan_with_donation_equals_the_loop():
    tx = optax.chain(targeted_sam(0.1, 0.5), optax.adam(1e-2))

    def step(carry, _):
        state, params = carry
        updates, state = tx.update(params - 1.0, state, params, neg_grad_fn=quadratic_grad)
        return (state, optax.apply_updates(params, updates)), state[0].neg_grad_norm

    carry = (tx.init(THETA), THETA)
    for _ in range(5):
        carry, norm = step(carry, None)
    fresh = jax.tree.map(jnp.copy, (tx.init(THETA), THETA))
    scanned, norms = jax.jit(lambda c: jax.lax.scan(step, c, length=5), donate_argnums=0)(fresh)
    np.testing.assert_allclose(scanned[1], carry[1], rtol=1e-5)
    np.testing.assert_allclose(norms[-1], norm, rtol=1e-5)


def test_micro_batches_inside_f_perturb_by_the_whole_batch():
    rows = jax.random.normal(jax.random.key(1), (8, 3))

    def loss(theta, part):
        return jnp.sum(jnp.tanh(part @ theta)) / len(rows)

    def accumulated(theta):
        def add(total, part):
            return total + jax.grad(loss)(theta, part), None

        return jax.lax.scan(add, jnp.zeros(3), rows.reshape(4, 2, 3))[0]

    whole, _ = once(THETA, THETA, lambda theta: jax.grad(loss)(theta, rows), rho=0.3)
    parts, _ = once(THETA, THETA, accumulated, rho=0.3)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_update_does_not_depend_on_the_number_of_devices(devices):
    mesh = jax.make_mesh(
        (devices,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = jax.random.normal(jax.random.key(2), (16, 3))
    sharded = jax.device_put(rows, jax.NamedSharding(mesh, jax.P("data")))

    def update(rows):
        grad = jax.grad(lambda theta: jnp.mean(jnp.sin(rows @ theta)))
        return once(THETA, THETA, grad, rho=0.5)

    alone, alone_state = jax.jit(update)(rows)
    spread, spread_state = jax.jit(update)(sharded)
    np.testing.assert_allclose(spread, alone, rtol=1e-5)
    np.testing.assert_allclose(spread_state, alone_state, rtol=1e-5)


def test_state_survives_orbax(tmp_path):
    from orbax.checkpoint import v1 as ocp

    tx = optax.chain(targeted_sam(0.05, 0.3), optax.adamw(1e-3))
    _, state = tx.update(THETA, tx.init(THETA), THETA, neg_grad_fn=quadratic_grad)
    ocp.save(tmp_path / "state", state)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    restored = ocp.load(tmp_path / "state", like)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert isinstance(restored[0], TargetedSamState)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_everything_but_rho_and_weight_is_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        targeted_sam(0.05, 0.3, None)
    tx = targeted_sam(rho=0.05, neg_weight=0.3)
    with pytest.raises(TypeError, match="positional"):
        tx.update(THETA, tx.init(THETA), THETA, quadratic_grad)


def test_inside_partition_is_a_clear_error():
    tx = optax.partition(
        {"sam": targeted_sam(0.05, 0.3), "none": optax.set_to_zero()}, {"a": "sam", "b": "none"}
    )
    with pytest.raises(ValueError, match=r"MaskedNode.*outside of optax\.masked and optax\.partition"):
        tx.init({"a": THETA, "b": THETA})


def test_a_gradient_that_is_not_finite_shows_in_the_metrics():
    _, state = once(THETA, THETA, lambda p: p * jnp.array([1.0, jnp.inf, 1.0]))
    assert not jnp.isfinite(state.neg_grad_norm)
