"""Eq. 8 and Eq. 1 by separate calls, one a unit and gradient, without groups, windows or packing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sare_jax.data.batches import SETS
from sare_jax.objectives.ascent import ascent
from sare_jax.training import gradients
from sare_jax.training.static import Static
from tests import tiny_training as tiny

LOADED = tiny.tiny_llava()
BETA = 0.5  # of npo


@jax.jit
def row_log_probs(params, tokens, features):
    """float32[T - 1], log-probability of each token of one whole row but the first."""
    model = LOADED.merge(params, LOADED.frozen)
    logits = model.logits(model.hidden(tokens[None], features[None]))[0]
    return jax.nn.log_softmax(logits)[jnp.arange(len(tokens) - 1), tokens[1:]]


@functools.partial(jax.jit, static_argnames="objective")
def row_loss(params, row, objective):
    places = jnp.arange(1, len(row["tokens"]))
    wanted = (places >= row["start"]) & (places < row["end"])
    log_p = jnp.sum(wanted * row_log_probs(params, row["tokens"], row["features"]))
    count = row["end"] - row["start"]
    loss = {
        "nll": lambda: -log_p / count,
        "ascent": lambda: log_p / count,
        "unlikelihood": lambda: -jnp.log1p(-jnp.exp(log_p)),
        "npo": lambda: 2 / BETA * jnp.log1p(jnp.exp(BETA * (log_p - row["by_unit"]["reference"]))),
    }[objective]()
    return loss * row.get("by_unit", {}).get("weight", 1.0)


def naive_loss(params, part, objective):
    """A mean over units, one call a unit, without groups or windows; 0 where the set is not there."""
    if part is None:
        return jnp.zeros(())
    rows = [jax.tree.map(lambda x, i=i: x[i], part) for i in np.flatnonzero(part["valid"])]
    return sum(row_loss(params, row, objective) for row in rows) / max(len(rows), 1)


def naive_gradient(params, batch, objective, hyper):
    """Eq. 8 by four calls, with a norm of its own."""

    def neg(p):
        return jax.grad(naive_loss)(p, batch["neg"], objective)

    at_theta = neg(params)
    norm = np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(at_theta)))
    moved = jax.tree.map(lambda p, g: p + np.float32(hyper.rho / norm) * g, params, at_theta)
    calls = [neg(moved)] + [
        jax.grad(lambda p, k=kind: naive_loss(p, batch.get(k), "nll"))(params) for kind in SETS[1:]
    ]
    total = jax.tree.map(lambda n, p, s: hyper.neg_weight * n + p + hyper.sent_weight * s, *calls)
    return total, norm, naive_loss(moved, batch["neg"], objective)


def static_of(objective=None, loaded=LOADED, **options):
    """The static argument of a step on a tiny model."""
    how = gradients.of_model(loaded)
    return Static(loaded.merge, objective or ascent(), **{"gradients": how} | options)


@functools.cache
def compiled(step, static):
    """One program a step, static argument and shapes, whichever tests run it."""
    return jax.jit(functools.partial(step, static=static))


def assert_trees_close(actual, expected, rtol=1e-5):
    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * float(np.max(np.abs(b))))

    jax.tree.map(close, actual, expected)


def gradient_of(state):
    """The gradient that AdamW saw in its first step, from its first moment."""
    (adam,) = [
        node
        for node in jax.tree.leaves(state.opt_state, is_leaf=lambda x: hasattr(x, "mu"))
        if hasattr(node, "mu")
    ]
    return jax.tree.map(lambda m: m / (1 - 0.9), adam.mu)
