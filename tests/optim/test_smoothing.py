"""Gradient-norm penalty and randomised smoothing against closed forms and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.optim import (
    gradient_norm_penalty,
    logged,
    randomized_smoothing,
    skip_nonfinite,
    targeted_sam,
)
from tests.optim import small_net
from tests.optim.small_net import flat

HESSIAN = jnp.array([[3.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 1.0]])
THETA = jnp.array([1.0, -2.0, 0.5])


def bowl_grad(theta):
    return HESSIAN @ theta


def once(tx, params, f, retain=None, **extra):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return tx.update(zeros if retain is None else retain, tx.init(params), params, neg_grad_fn=f, **extra)


# --- gradient-norm penalty ------------------------------------------------------------------------


def test_penalty_has_the_closed_form_on_a_quadratic():
    updates, state = once(gradient_norm_penalty(0.2, 0.3), THETA, bowl_grad, retain=jnp.ones(3))
    g = bowl_grad(THETA)
    d = g / jnp.linalg.norm(g)
    np.testing.assert_allclose(updates, 0.3 * (g + 0.2 * HESSIAN @ d) + 1.0, rtol=1e-6)
    np.testing.assert_allclose(state.neg_grad_norm, jnp.linalg.norm(g), rtol=1e-6)
    np.testing.assert_allclose(state.curvature, d @ HESSIAN @ d, rtol=1e-6)


def test_penalty_is_the_derivative_of_the_penalised_loss():
    """Eq. 11, differentiated twice by jax; the norm has a gradient of its own, unlike a constant."""
    inputs, targets = small_net.rows()
    params, f = small_net.params(), small_net.neg_grad(*small_net.rows())

    def penalised(p):
        return -small_net.nll(p, inputs, targets) + 0.4 * jnp.linalg.norm(flat(f(p)))

    updates, _ = once(gradient_norm_penalty(0.4, 1.0), params, f)
    expected = jax.jit(jax.grad(penalised))(params)
    np.testing.assert_allclose(flat(updates), flat(expected), rtol=1e-4, atol=1e-6)
    assert jnp.linalg.norm(flat(updates) - flat(f(params))) > 0.1


def test_penalty_mask_limits_the_norm_alone():
    updates, state = once(
        gradient_norm_penalty(0.2, 1.0, mask={"a": True, "b": False}),
        {"a": jnp.array(3.0), "b": jnp.array(4.0)},
        lambda p: {"a": p["a"] * p["b"] ** 2, "b": p["a"] ** 2 * p["b"]},  # of ½ a²b²
    )
    # ‖g‖ is |a b²|, whose derivatives are b² and 2ab.
    np.testing.assert_allclose(updates["a"], 48.0 + 0.2 * 16.0, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], 36.0 + 0.2 * 24.0, rtol=1e-6)
    assert state.neg_grad_norm == 48.0


def test_appendix_b_second_gradient_agrees_with_the_product_to_second_order():
    """Eq. 13 against Eq. 14 on a small network: half the ρ, a quarter of the error."""
    with jax.enable_x64(True):
        params = small_net.params(jnp.float64)
        inputs, targets = small_net.rows()
        f = small_net.neg_grad(inputs.astype(jnp.float64), targets)

        @jax.jit
        def error(rho):
            sam, _ = once(targeted_sam(rho, 1.0), params, f)
            exact, _ = once(gradient_norm_penalty(rho, 1.0), params, f)
            return jnp.linalg.norm(flat(sam) - flat(exact))

        errors = [float(error(rho)) for rho in (0.08, 0.04, 0.02)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("factory", [gradient_norm_penalty, randomized_smoothing])
def test_zero_gradient_is_a_plain_step(factory):
    with jax.debug_nans(True):
        updates, state = once(factory(0.5, 1.0), THETA, jnp.zeros_like, retain=THETA)
    np.testing.assert_array_equal(updates, THETA)
    assert state.neg_grad_norm == 0


# --- randomised smoothing -------------------------------------------------------------------------


def test_smoothing_of_a_quadratic_is_its_gradient_at_the_mean_noise():
    seen = []

    def f(theta):
        jax.debug.callback(lambda x: seen.append(x), theta)
        return bowl_grad(theta)

    updates, _ = once(randomized_smoothing(0.1, 0.3, draws=4), THETA, f, retain=jnp.ones(3))
    jax.effects_barrier()
    assert len(seen) == 4
    np.testing.assert_allclose(updates, 0.3 * HESSIAN @ np.mean(seen, 0) + 1.0, rtol=1e-5)


def test_noise_is_gaussian_of_the_given_size_and_new_in_each_draw_and_update():
    params = {"w": jnp.zeros((200, 50)), "b": jnp.zeros((10_000,))}
    tx = randomized_smoothing(0.02, 1.0, draws=1, seed=5)
    state, draws = tx.init(params), []
    for _ in range(2):
        noise, state = tx.update(params, state, params, neg_grad_fn=lambda p: p)
        draws += [noise["w"].ravel(), noise["b"]]
    for draw in draws:
        np.testing.assert_allclose([draw.mean(), draw.std()], [0.0, 0.02], atol=1e-3)
    correlations = np.corrcoef(draws)
    np.testing.assert_allclose(correlations, np.eye(4), atol=0.05)
    pair, _ = once(randomized_smoothing(0.02, 1.0, draws=2, seed=5), params, lambda p: p)
    np.testing.assert_allclose(pair["b"].std(), 0.02 / np.sqrt(2), rtol=0.05)


def test_the_mean_of_large_gradients_is_finite():
    """Though their sum is not."""
    tx = randomized_smoothing(0.1, 1.0, draws=3)
    params = jnp.ones(2)
    large = jnp.array([3.3e38, -2e38], jnp.float32)
    updates, _ = tx.update(jnp.zeros(2), tx.init(params), params, neg_grad_fn=lambda p: large)
    np.testing.assert_allclose(updates, large, rtol=1e-6)


def test_noise_follows_the_seed_and_the_mask_and_not_the_devices():
    params = {"w": jnp.zeros((16, 4)), "b": jnp.zeros((3,))}

    def noise(params, seed=0):
        tx = randomized_smoothing(0.1, 1.0, draws=1, seed=seed, mask={"w": True, "b": False})
        return once(tx, params, lambda p: p)[0]

    alone = jax.jit(noise)(params)
    assert jnp.all(alone["b"] == 0)
    assert not jnp.array_equal(alone["w"], noise(params, seed=1)["w"])
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    spread = jax.device_put(params, {"w": jax.NamedSharding(mesh, jax.P("data")), "b": None})
    np.testing.assert_array_equal(jax.jit(noise)(spread)["w"], alone["w"])


def test_smoothed_gradient_is_the_gradient_of_the_smoothed_loss():
    """Of E sin(θ + σξ) = e^(−σ²/2) sin θ, over many draws."""
    theta = jnp.linspace(-1.0, 1.0, 5)
    updates, _ = once(randomized_smoothing(0.7, 1.0, draws=4000), theta, jnp.cos)
    np.testing.assert_allclose(updates, np.exp(-0.245) * np.cos(theta), atol=0.03)


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "names"),
    [
        (gradient_norm_penalty, {"neg_grad_norm", "curvature"}),
        (lambda *args: randomized_smoothing(*args, draws=2), {"neg_grad_norm"}),
    ],
    ids=["penalty", "smoothing"],
)
def test_they_work_in_a_chain_under_scan_and_skipping_and_survive_orbax(factory, names, tmp_path):
    from orbax.checkpoint import v1 as ocp

    tx = skip_nonfinite(optax.chain(factory(0.1, 0.5), optax.adam(1e-2)))

    def step(carry, fault):
        params, state = carry
        updates, state = tx.update(params - 1.0 + fault, state, params, neg_grad_fn=bowl_grad)
        return (optax.apply_updates(params, updates), state), None

    (params, state), _ = jax.jit(lambda c, f: jax.lax.scan(step, c, f))(
        (THETA, tx.init(THETA)), jnp.array([0.0, jnp.nan, 0.0])
    )
    assert state.skipped == 1
    assert jnp.all(jnp.isfinite(params))
    assert set(logged(state)) == names | {"skipped", "skipped_in_a_row"}
    ocp.save(tmp_path / "state", state)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    restored = ocp.load(tmp_path / "state", like)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(_raw(x), _raw(y)), restored, state)


def _raw(x):
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def test_strengths_can_be_scheduled():
    penalty = optax.inject_hyperparams(gradient_norm_penalty)(
        rho=optax.linear_schedule(0.0, 0.2, 1), neg_weight=1.0
    )
    noise = optax.inject_hyperparams(randomized_smoothing, static_args=("draws", "seed"))(
        sigma=optax.linear_schedule(0.0, 0.2, 1), neg_weight=1.0
    )
    for tx in (penalty, noise):
        state = tx.init(THETA)
        first, state = tx.update(jnp.zeros(3), state, THETA, neg_grad_fn=bowl_grad)
        second, _ = tx.update(jnp.zeros(3), state, THETA, neg_grad_fn=bowl_grad)
        np.testing.assert_allclose(first, bowl_grad(THETA), rtol=1e-6)
        assert jnp.linalg.norm(second - first) > 0.01


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="gradient_norm_penalty: rho"):
        gradient_norm_penalty(-1.0, 1.0)
    with pytest.raises(ValueError, match="randomized_smoothing: sigma"):
        randomized_smoothing(-1.0, 1.0)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        randomized_smoothing(1.0, 1.0, draws=0)
    with pytest.raises(ValueError, match="static_args"):
        optax.inject_hyperparams(randomized_smoothing)(sigma=0.1, neg_weight=1.0).init(THETA)
    for factory in (gradient_norm_penalty, randomized_smoothing):
        tx = factory(0.1, 1.0)
        with pytest.raises(ValueError, match=rf"{factory.__name__}.*neg_grad_fn"):
            tx.update(THETA, tx.init(THETA), THETA)
        with pytest.raises(ValueError, match=rf"{factory.__name__}: met a MaskedNode"):
            optax.masked(tx, {"a": True, "b": False}).init({"a": THETA, "b": THETA})
