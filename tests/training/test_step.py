"""The packed-in passes of the step equal the naive four calls, on any devices and micro-batches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sare_jax.data.batches import SETS, tokenize, unlearn_batches
from sare_jax.errors import UserError
from sare_jax.objectives.ascent import ascent
from sare_jax.objectives.unlikelihood import unlikelihood
from sare_jax.optim import AdamW, adamw
from sare_jax.training.sharding import compile_step, make_mesh, replicated
from sare_jax.training.state import Hyper, as_arrays, efuf_optimizer, init_state, unlearn_optimizer
from sare_jax.training.static import Static
from sare_jax.training.step import PLAIN, efuf_step, finetune_step, unlearn_step
from tests import tiny_training as tiny
from tests.training.naive import (
    LOADED,
    assert_trees_close,
    compiled,
    gradient_of,
    naive_gradient,
    naive_loss,
    row_log_probs,
    static_of,
)

HYPER = Hyper(rho=0.05, neg_weight=0.3, sent_weight=0.2, adamw=AdamW(1e-3, 0.05))
ERASING = {"ascent": ascent(), "unlikelihood": unlikelihood()}


def batch_of(batch_size=4, row_multiple=1, **sizes):
    token_sets = tokenize(tiny.curated(**sizes), tiny.Letters(), "say it")
    batches = unlearn_batches(token_sets, batch_size=batch_size, steps=1, seed=0, row_multiple=row_multiple)
    return tiny.attach(next(iter(batches)))


def fresh_state(params=LOADED.params):
    return init_state(params, unlearn_optimizer(HYPER), seed=0)


def jitted(objective=ERASING["ascent"], micro_batches=1):
    return compiled(unlearn_step, static_of(objective, micro_batches=micro_batches))


@pytest.mark.parametrize(("objective", "rho"), [("ascent", 0.05), ("ascent", 0.5), ("unlikelihood", 0.05)])
def test_two_passes_equal_the_naive_four_calls(objective, rho):
    batch, hyper = batch_of(), HYPER._replace(rho=rho)
    state, metrics = jitted(ERASING[objective])(fresh_state(), LOADED.frozen, batch, as_arrays(hyper))
    gradient, norm, perturbed = naive_gradient(LOADED.params, batch, objective, hyper)
    assert_trees_close(gradient_of(state), gradient)
    for kind, rule in (("neg", objective), ("pos", "nll"), ("sent", "nll")):
        np.testing.assert_allclose(metrics[kind], naive_loss(LOADED.params, batch[kind], rule), rtol=1e-5)
    np.testing.assert_allclose(metrics["neg_grad_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(metrics["neg_perturbed"], perturbed, rtol=1e-5)
    np.testing.assert_allclose(metrics["eps_norm"], rho, rtol=1e-5)
    updates, _ = optax.adamw(1e-3, weight_decay=0.05).update(
        gradient, optax.adamw(1e-3, weight_decay=0.05).init(LOADED.params), LOADED.params
    )
    assert_trees_close(state.params, optax.apply_updates(LOADED.params, updates))


def test_what_stands_behind_the_target_does_not_matter():
    part = batch_of()["neg"]
    end = int(part["end"][0])
    whole = row_log_probs(LOADED.params, part["tokens"][0], part["features"][0])[: end - 1]
    cut = row_log_probs(LOADED.params, part["tokens"][0][:end], part["features"][0])
    np.testing.assert_allclose(whole, cut, rtol=1e-5, atol=1e-5)


def test_rho_zero_is_eq_1():
    """EFUF: one gradient of L_pos + λ₁ L_neg + λ₂ L_sent."""
    batch = batch_of()

    def objective(params):
        terms = naive_loss(params, batch["pos"], "nll"), naive_loss(params, batch["neg"], "ascent")
        return terms[0] + 0.3 * terms[1] + 0.2 * naive_loss(params, batch["sent"], "nll")

    expected = jax.grad(objective)(LOADED.params)
    state, metrics = jitted()(fresh_state(), LOADED.frozen, batch, as_arrays(HYPER._replace(rho=0.0)))
    assert_trees_close(gradient_of(state), expected)
    np.testing.assert_allclose(metrics["neg_perturbed"], metrics["neg"], rtol=1e-6)
    np.testing.assert_allclose(metrics["cosine"], 1.0, rtol=1e-5)
    one_pass = compiled(efuf_step, static_of())
    first = init_state(LOADED.params, efuf_optimizer(HYPER), seed=0)
    after, efuf_metrics = one_pass(first, LOADED.frozen, batch, as_arrays(HYPER))
    assert_trees_close(gradient_of(after), expected)
    assert_trees_close(after.params, state.params)
    assert_trees_close({kind: efuf_metrics[kind] for kind in SETS}, {kind: metrics[kind] for kind in SETS})
    np.testing.assert_allclose(efuf_metrics["grad_norm"], optax.tree.norm(expected), rtol=1e-5)


def test_eps_makes_hallucinations_likelier_by_rho_times_the_norm():
    hyper = HYPER._replace(rho=1e-3)
    _, metrics = jitted()(fresh_state(), LOADED.frozen, batch_of(), as_arrays(hyper))
    rise = metrics["neg_perturbed"] - metrics["neg"]
    np.testing.assert_allclose(rise, 1e-3 * metrics["neg_grad_norm"], rtol=2e-2)


@pytest.mark.parametrize("objective", ["ascent", "unlikelihood"])
def test_training_erases_and_retains(objective):
    """Case OP-12 in the large: L_ft of the negatives rises; without λ₁, that of the positives falls."""
    batch = batch_of(num_pos=4)
    batch["neg"]["end"] = (
        batch["neg"]["start"] + 1
    )  # of a random model, whole units are too rare to be unlikely
    step, state = jitted(ERASING[objective]), fresh_state()
    hyper = as_arrays(HYPER._replace(adamw=AdamW(1e-2, 0.05), neg_weight=10.0))
    for _ in range(20):
        state, _ = step(state, LOADED.frozen, batch, hyper)
    assert (
        naive_loss(state.params, batch["neg"], "nll") > naive_loss(LOADED.params, batch["neg"], "nll") + 0.1
    )
    retained, _ = step(fresh_state(), LOADED.frozen, batch, as_arrays(HYPER._replace(neg_weight=0.0)))
    assert naive_loss(retained.params, batch["pos"], "nll") < naive_loss(LOADED.params, batch["pos"], "nll")


def test_micro_batches_do_not_change_the_step():
    """Case PA-05: means over the whole batch, with unequal numbers of units in the parts."""
    batch = batch_of(batch_size=5, row_multiple=8)
    whole, whole_metrics = jitted()(fresh_state(), LOADED.frozen, batch, as_arrays(HYPER))
    parts, parts_metrics = jitted(micro_batches=4)(fresh_state(), LOADED.frozen, batch, as_arrays(HYPER))
    assert_trees_close(gradient_of(parts), gradient_of(whole))
    assert_trees_close(parts_metrics, whole_metrics)


@pytest.mark.parametrize(("devices", "batch_size"), [(2, 5), (8, 5), (8, 8)])
def test_devices_do_not_change_the_step(devices, batch_size):
    """Cases SH-01 and OP-04's global norm: five units on eight devices too."""
    alone, alone_metrics = jitted()(fresh_state(), LOADED.frozen, batch_of(batch_size), as_arrays(HYPER))
    mesh = make_mesh(devices)
    step = compile_step(unlearn_step, mesh, static_of())
    frozen = jax.device_put(LOADED.frozen, replicated(mesh))
    spread, metrics = step(fresh_state(), frozen, batch_of(batch_size, devices), as_arrays(HYPER))
    assert_trees_close(gradient_of(spread), gradient_of(alone))
    assert_trees_close(metrics, alone_metrics)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(spread.params))


def test_too_many_devices_are_refused():
    with pytest.raises(UserError, match=r"model\.data_parallel is 9, but jax sees 8 devices"):
        make_mesh(9)


@pytest.mark.parametrize("empty", ["num_pos", "num_sent"])
def test_an_empty_set_has_loss_zero_and_the_others_train(empty):
    """Case PA-06."""
    batch, kind = batch_of(**{empty: 0}), empty.removeprefix("num_")
    with jax.debug_nans(True):
        state, metrics = jitted()(fresh_state(), LOADED.frozen, batch, as_arrays(HYPER))
    gradient, _, _ = naive_gradient(LOADED.params, batch, "ascent", HYPER)
    assert metrics[kind] == 0
    assert_trees_close(gradient_of(state), gradient)


def test_without_negatives_there_is_no_perturbation():
    """Cases PA-06 and OP-01 in the step."""
    batch = batch_of()
    batch["neg"]["valid"] = np.zeros_like(batch["neg"]["valid"])
    with jax.debug_nans(True):
        state, metrics = jitted()(fresh_state(), LOADED.frozen, batch, as_arrays(HYPER))
    assert metrics["neg"] == metrics["eps_norm"] == metrics["neg_grad_norm"] == 0
    retained = jitted()(fresh_state(), LOADED.frozen, batch_of(), as_arrays(HYPER._replace(neg_weight=0.0)))[
        0
    ]
    assert_trees_close(gradient_of(state), gradient_of(retained))


def test_settings_are_arguments_of_one_program():
    traces = []

    def merge(params, frozen):
        traces.append(1)
        return LOADED.merge(params, frozen)

    mesh = make_mesh(1)
    static = Static(merge, ERASING["ascent"], static_of().gradients)
    step = compile_step(unlearn_step, mesh, static)
    state = jax.device_put(fresh_state(), replicated(mesh))
    for rho in (0.0, 0.05, 0.1):
        hyper = HYPER._replace(rho=rho, adamw=AdamW(1e-3 + rho), neg_weight=1.0 - rho)
        state, metrics = step(state, LOADED.frozen, batch_of(), as_arrays(hyper))
        if rho == 0.0:
            first = len(traces)
        np.testing.assert_allclose(metrics["eps_norm"], rho, rtol=1e-5)
    assert len(traces) == first
    assert compile_step(unlearn_step, mesh, dataclasses.replace(static)) is step


def test_bf16_frozen_weights_keep_float32_trainables():
    loaded = tiny.tiny_llava(dtype=jnp.bfloat16)
    step = jax.jit(functools.partial(unlearn_step, static=static_of(loaded=loaded)))
    state, metrics = step(fresh_state(loaded.params), loaded.frozen, batch_of(), as_arrays(HYPER))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(metrics)} == {jnp.dtype(jnp.float32)}
    _, wide = jitted()(fresh_state(), LOADED.frozen, batch_of(), as_arrays(HYPER))
    np.testing.assert_allclose(metrics["pos"], wide["pos"], rtol=3e-2)


def test_finetuning_is_adamw_on_the_mean_loss():
    batch, hyper = batch_of()["neg"], AdamW(1e-3, 0.0)
    batch["valid"] = np.array([1, 1, 1, 0], np.float32)
    state = init_state(LOADED.params, adamw(hyper), seed=0)
    step = compiled(finetune_step, static_of(PLAIN))
    after, metrics = step(state, LOADED.frozen, batch, as_arrays(hyper))
    loss, gradient = jax.value_and_grad(lambda p: naive_loss(p, batch, "nll"))(LOADED.params)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    updates, _ = optax.adam(1e-3).update(gradient, optax.adam(1e-3).init(LOADED.params))
    assert_trees_close(after.params, optax.apply_updates(LOADED.params, updates))
    assert after.step == 1
