"""The ways to find ε*: other balls, several steps; each against its equation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.optim import Perturbation, targeted_sam
from tests.optim import small_net
from tests.optim.small_net import flat

PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[0.5]]), "empty": jnp.zeros((0, 3))}
SCALES = {"a": jnp.array([3.0, 1.0]), "b": jnp.array([[20.0]]), "empty": jnp.zeros((0, 3))}


def bowl_grad(p):
    """Of ½ Σ s θ²: g = s θ."""
    return jax.tree.map(jnp.multiply, SCALES, p)


def places(perturbation, *, params=PARAMS, f=bowl_grad, rho=0.3, mask=None):
    """ε* and the state: what f was last called at, less θ."""
    seen = []

    def noting(p):
        seen.append(p)
        return f(p)

    tx = targeted_sam(rho, 1.0, mask=mask, perturbation=perturbation)
    zeros = jax.tree.map(jnp.zeros_like, params)
    _, state = tx.update(zeros, tx.init(params), params, neg_grad_fn=noting)
    return jax.tree.map(jnp.subtract, seen[-1], params), state, len(seen)


def test_leaf_norm_gives_each_leaf_its_own_ball():
    eps, state, _ = places(Perturbation(norm="leaf"))
    g = bowl_grad(PARAMS)
    np.testing.assert_allclose(eps["a"], 0.3 * g["a"] / jnp.linalg.norm(g["a"]), rtol=1e-5)
    np.testing.assert_allclose(eps["b"], [[0.3]], rtol=1e-5)
    np.testing.assert_allclose(state.eps_norm, 0.3 * np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(state.neg_grad_norm, jnp.linalg.norm(flat(g)), rtol=1e-6)


def test_leaf_norm_leaves_a_leaf_without_gradient_alone():
    with jax.debug_nans(True):
        eps, _, _ = places(Perturbation(norm="leaf"), f=lambda p: bowl_grad(p) | {"a": jnp.zeros(2)})
    np.testing.assert_array_equal(eps["a"], np.zeros(2))
    np.testing.assert_allclose(eps["b"], [[0.3]], rtol=1e-5)


def test_adaptive_is_rho_t_squared_g_over_the_norm_of_t_g():
    eps, state, _ = places(Perturbation(scaling="adaptive", eta=0.1))
    sizes = jax.tree.map(lambda x: jnp.abs(x) + 0.1, PARAMS)
    stretched = jax.tree.map(jnp.multiply, sizes, bowl_grad(PARAMS))
    norm = jnp.linalg.norm(flat(stretched))
    expected = jax.tree.map(lambda t, s: 0.3 * t * s / norm, sizes, stretched)
    np.testing.assert_allclose(flat(eps), flat(expected), rtol=1e-5)
    length = jnp.linalg.norm(flat(jax.tree.map(jnp.divide, eps, sizes)))
    np.testing.assert_allclose(length, 0.3, rtol=1e-5)
    np.testing.assert_allclose(state.eps_norm, jnp.linalg.norm(flat(expected)), rtol=1e-5)


def test_adaptive_does_not_see_a_rescaling_of_parameters():
    """With θ′ = cθ and L′(θ′) = L(θ), ε*′ = c ε*."""
    factor = {"a": 10.0, "b": 0.1, "empty": 1.0}
    moved = jax.tree.map(jnp.multiply, factor, PARAMS)

    def rescaled_grad(p):
        g = bowl_grad(jax.tree.map(jnp.divide, p, factor))
        return jax.tree.map(jnp.divide, g, factor)

    how = Perturbation(scaling="adaptive", eta=0.0)
    eps, _, _ = places(how)
    other, _, _ = places(how, params=moved, f=rescaled_grad)
    np.testing.assert_allclose(flat(other), flat(jax.tree.map(jnp.multiply, factor, eps)), rtol=1e-4)


def test_steps_are_projected_to_the_ball_as_in_the_equation():
    eps, state, calls = places(Perturbation(steps=3))
    assert calls == 4  # at θ, two on the way, and at θ + ε*
    theta, scales = (np.asarray(flat(tree), np.float64) for tree in (PARAMS, SCALES))
    point = np.zeros(3)
    for _ in range(3):
        g = scales * (theta + point)
        point = point + 0.3 * g / np.linalg.norm(g)
        point *= min(1, 0.3 / np.linalg.norm(point))
    np.testing.assert_allclose(flat(eps), point, rtol=1e-4)
    np.testing.assert_allclose(state.eps_norm, 0.3, rtol=1e-5)


@pytest.mark.parametrize("norm", ["global", "leaf"])
@pytest.mark.parametrize("scaling", ["none", "adaptive"])
def test_more_steps_find_a_worse_place_in_the_same_ball(norm, scaling):
    inputs, targets = small_net.rows()
    params = small_net.params()
    f = small_net.neg_grad(inputs, targets)

    def loss_there(steps):
        how = Perturbation(norm=norm, scaling=scaling, steps=steps)
        eps, _, _ = places(how, params=params, f=jax.jit(f), rho=0.5)
        moved = jax.tree.map(jnp.add, params, eps)
        return -small_net.nll(moved, inputs, targets)

    losses = [loss_there(steps) for steps in (1, 2, 4)]
    assert losses[0] < losses[1] < losses[2]


def test_steps_that_stay_inside_are_not_stretched_to_the_rim():
    """The gradient turns round between θ and θ + ε: the projection shortens only what is too long."""
    eps, _, _ = places(Perturbation(steps=2), params=jnp.array([0.1]), f=lambda p: 0.2 - p, rho=0.3)
    np.testing.assert_allclose(eps, [0.0], atol=1e-6)


def test_mask_holds_in_all_ways():
    for how in (Perturbation(norm="leaf", steps=2), Perturbation(scaling="adaptive", steps=2)):
        eps, _, _ = places(how, mask={"a": True, "b": False, "empty": True})
        assert eps["b"] == 0
        assert np.all(eps["a"] != 0)


@pytest.mark.parametrize(
    "how",
    [
        Perturbation(norm="leaf"),
        Perturbation(scaling="adaptive"),
        Perturbation(steps=3),
        Perturbation(refresh_every=3),
    ],
    ids=["leaf", "adaptive", "steps", "refresh"],
)
def test_no_way_depends_on_the_number_of_devices(how):
    params, batch = small_net.params(), small_net.rows()
    tx = targeted_sam(0.5, 0.3, perturbation=how)

    @jax.jit
    def two_steps(params, batch):
        def one(carry, _):
            params, state = carry
            f = small_net.neg_grad(*batch)
            updates, state = tx.update(jax.tree.map(jnp.zeros_like, params), state, params, neg_grad_fn=f)
            return (jax.tree.map(lambda p, u: p - 0.1 * u, params, updates), state), None

        return jax.lax.scan(one, (params, tx.init(params)), length=2)[0]

    alone, _ = two_steps(params, batch)
    for devices in (2, 8):
        mesh = jax.make_mesh(
            (devices,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
        )
        spread, _ = two_steps(params, jax.device_put(batch, jax.NamedSharding(mesh, jax.P("data"))))
        np.testing.assert_allclose(flat(spread), flat(alone), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtypes_stay(dtype):
    params = small_net.params(dtype)
    inputs, targets = small_net.rows()
    for how in (Perturbation(norm="leaf", scaling="adaptive", steps=2), Perturbation(refresh_every=2)):
        tx = targeted_sam(0.5, 0.3, perturbation=how)
        step = jax.jit(
            lambda state, tx=tx: tx.update(
                params, state, params, neg_grad_fn=small_net.neg_grad(inputs, targets)
            )
        )
        updates, state = step(step(tx.init(params))[1])
        assert all(x.dtype == dtype for x in jax.tree.leaves(updates))
        assert state.eps_norm.dtype == state.cosine.dtype == jnp.float32


def test_settings_pass_through_inject_hyperparams_without_being_named_static():
    injected = optax.inject_hyperparams(targeted_sam)
    tx = injected(rho=optax.linear_schedule(0.0, 0.4, 2), neg_weight=1.0, perturbation=Perturbation(steps=2))
    state, lengths = tx.init(PARAMS), []
    step = jax.jit(lambda s: tx.update(PARAMS, s, PARAMS, neg_grad_fn=bowl_grad)[1])
    for _ in range(3):
        state = step(state)
        lengths.append(float(state.inner_state.eps_norm))
    np.testing.assert_allclose(lengths, [0.0, 0.2, 0.4], atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"norm": "tensor"}, {"scaling": "asam"}, {"steps": 0}, {"refresh_every": 0}, {"eta": -1.0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=rf"Perturbation\.{next(iter(wrong))}"):
        targeted_sam(0.1, 1.0, perturbation=Perturbation(**wrong))
