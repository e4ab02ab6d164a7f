"""What is accepted is done: masks, radii and gradients that a transform cannot serve are errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.optim import AdamW, gradient_norm_penalty, randomized_smoothing, skip_nonfinite, targeted_sam

PARAMS = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
TRANSFORMS = {
    "targeted_sam": targeted_sam,
    "gradient_norm_penalty": gradient_norm_penalty,
    "randomized_smoothing": functools.partial(randomized_smoothing, draws=1),
}
STATIC = {"randomized_smoothing": ["draws", "seed"]}
each = pytest.mark.parametrize("name", TRANSFORMS)


def matrices(params):
    """The usual mask, as optax's own transforms take it."""
    return jax.tree.map(lambda x: x.ndim > 0, params)


def cubic_grad(params):
    return jax.tree.map(lambda x: x**3, params)


def update(tx, params=PARAMS, f=cubic_grad, **extra):
    retain = jax.tree.map(jnp.zeros_like, params)
    return tx.update(retain, tx.init(params), params, neg_grad_fn=f, **extra)


@each
@pytest.mark.parametrize("jitted", [False, True])
def test_a_mask_function_under_inject_hyperparams_is_no_schedule(name, jitted):
    static = STATIC.get(name, [])
    injected = optax.inject_hyperparams(TRANSFORMS[name], static_args=static)
    tx = injected(0.5, 1.0, mask=matrices)
    init = jax.jit(tx.init) if jitted else tx.init
    with pytest.raises(ValueError, match=rf"{name}: mask is a single value.*static_args='mask'"):
        init(PARAMS)
    named = optax.inject_hyperparams(TRANSFORMS[name], static_args=[*static, "mask"])(0.5, 1.0, mask=matrices)
    assert_same(update(named)[0], update(TRANSFORMS[name](0.5, 1.0, mask=matrices))[0])


@each
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (True, "single value"),
        (jnp.array(True), "single value"),
        (lambda params: False, "single value"),
        ({"w": False, "b": False}, "chooses no parameter"),
        ({"w": 1.0, "b": True}, "not True or False"),
    ],
)
def test_a_mask_that_says_nothing_is_refused(name, mask, message):
    with pytest.raises(ValueError, match=f"{name}: mask .*{message}"):
        TRANSFORMS[name](0.5, 1.0, mask=mask).init(PARAMS)


@each
@pytest.mark.parametrize("value", [-0.1, np.float32(-0.1), np.array(-1), jnp.array(-0.1)])
def test_a_negative_radius_is_refused_whatever_its_type(name, value):
    with pytest.raises(ValueError, match="must not be negative"):
        TRANSFORMS[name](value, 1.0)


def test_a_negative_radius_that_is_traced_counts_as_zero():
    traced = jax.jit(lambda rho: update(targeted_sam(rho, 1.0))[0])
    assert_same(traced(-0.5), traced(0.0))


@each
def test_numbers_are_not_rounded_to_the_parameters_bfloat16(name):
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    static = STATIC.get(name, [])
    with pytest.raises(ValueError, match=r"rounded to bfloat16.*hyperparam_dtype=jnp\.float32"):
        optax.inject_hyperparams(TRANSFORMS[name], static)(0.03, 1.0).init(narrow)
    kept = optax.inject_hyperparams(TRANSFORMS[name], static, hyperparam_dtype=jnp.float32)(0.03, 1.0)
    assert_same(update(kept, narrow)[0], update(TRANSFORMS[name](0.03, 1.0), narrow)[0])


@each
def test_gradients_with_aux_and_empty_trees_are_named(name):
    with pytest.raises(ValueError, match=rf"{name}: neg_grad_fn gave .*give the gradient alone"):
        update(TRANSFORMS[name](0.5, 1.0), f=lambda params: (params, 1.0))
    with pytest.raises(ValueError, match=rf"{name}: neg_grad_fn gave "):
        update(TRANSFORMS[name](0.5, 1.0), f=lambda params: {"w": params["w"]})
    with pytest.raises(ValueError, match=f"{name}: the tree of parameters is empty"):
        TRANSFORMS[name](0.5, 1.0).init({})


@each
def test_op_09_multi_steps_around_it_is_refused(name):
    for inner in (TRANSFORMS[name](0.5, 1.0), skip_nonfinite(optax.chain(TRANSFORMS[name](0.5, 1.0)))):
        with pytest.raises(ValueError, match="last micro-batch alone; accumulate inside neg_grad_fn"):
            optax.MultiSteps(inner, every_k_schedule=2).init(PARAMS)
    optax.MultiSteps(optax.adam(1e-3), every_k_schedule=2).init(PARAMS)


def test_op_08_the_logged_length_is_that_of_what_was_added():
    """At 256, bfloat16's spacing is 2: an ε* of 0.006 leaves the parameters where they are."""
    narrow = jnp.full(4, 256.0, jnp.bfloat16)
    _, state = update(targeted_sam(0.006, 1.0), narrow, f=lambda p: p)
    assert state.eps_norm == 0
    _, state = update(targeted_sam(4.0, 1.0), narrow, f=lambda p: p)
    assert state.eps_norm == 4
    _, state = update(targeted_sam(0.006, 1.0), narrow.astype(jnp.float32), f=lambda p: p)
    np.testing.assert_allclose(state.eps_norm, 0.006, rtol=1e-6)


@pytest.mark.parametrize("size", [8.4e37, 8.6e37, 1.7e38, 3.4e38])
def test_the_largest_gradients_still_have_a_direction(size):
    """1/x is subnormal there, and a compiler may divide by multiplying with it."""
    places = []

    def f(params):
        places.append(params)
        return jnp.array([size, -size, 0.0])

    theta = jnp.zeros(3)
    state = jax.jit(lambda p: update(targeted_sam(1.0, 0.0), p, f)[1])(theta)
    np.testing.assert_allclose(state.eps_norm, 1.0, rtol=1e-6)
    assert np.isfinite(state.neg_grad_norm)
    update(targeted_sam(1.0, 0.0), theta, f)
    np.testing.assert_allclose(places[-1], np.array([1, -1, 0]) / np.sqrt(2), rtol=1e-6)


def test_ascent_on_other_samples_is_a_perturbation_by_their_gradient():
    """ε* from the other gradient, in all its steps; the gradient there from the first."""
    other = lambda params: jax.tree.map(lambda x: x + 1.0, params)  # noqa: E731
    updates, _ = update(targeted_sam(0.5, 1.0), ascent_grad_fn=other)
    g = other(PARAMS)
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(g)))
    moved = jax.tree.map(lambda p, d: p + 0.5 * d / norm, PARAMS, g)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, cubic_grad(moved))
    assert_same(
        update(targeted_sam(0.5, 1.0), ascent_grad_fn=cubic_grad)[0], update(targeted_sam(0.5, 1.0))[0]
    )


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"b1": 1.0}, "b1"),
        ({"b2": -0.1}, "b2"),
        ({"eps": 0.0}, "eps"),
    ],
)
def test_adamw_names_what_is_out_of_range(values, key):
    with pytest.raises(ValueError, match=rf"^here\.{key}: must"):
        AdamW(**values).check("here")


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
