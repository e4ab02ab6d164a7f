"""A small network with curvature, and the gradients of three losses on its rows."""

import jax
import jax.numpy as jnp

CLASSES = 5


def params(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(3), 2)
    return {
        "w": jax.random.normal(keys[0], (4, 8), dtype),
        "b": jnp.zeros((8,), dtype),
        "v": 0.7 * jax.random.normal(keys[1], (8, CLASSES), dtype),
    }


def rows(count=16):
    keys = jax.random.split(jax.random.key(4), 2)
    return jax.random.normal(keys[0], (count, 4)), jax.random.randint(keys[1], (count,), 0, CLASSES)


def nll(p, inputs, targets):
    log_probs = jax.nn.log_softmax(jnp.tanh(inputs @ p["w"] + p["b"]) @ p["v"])
    return -jnp.mean(jnp.take_along_axis(log_probs, targets[:, None], 1))


def neg_grad(inputs, targets):
    """∇L_neg as a function of the parameters, with L_neg = −L_ft."""
    return jax.grad(lambda p: -nll(p, inputs, targets))


def flat(tree):
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])
