"""Targeted-SAM on a small network that forgets one of three classes, with jax and optax alone.

Prints accuracies after forgetting, and after twenty steps on five samples of the forgotten class.
"""

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim import targeted_sam

LABELS = jnp.repeat(jnp.arange(3), 100)
CENTRES = jnp.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
POINTS = CENTRES[LABELS] + 0.6 * jax.random.normal(jax.random.key(0), (300, 2))
EVERY, FORGOTTEN, OTHERS = jnp.arange(300), jnp.arange(100), jnp.arange(100, 300)


def logits(params, which):
    return jnp.tanh(POINTS[which] @ params["in"]) @ params["out"] + params["bias"]


def nll(params, which):
    log_probs = jax.nn.log_softmax(logits(params, which))
    return -jnp.take_along_axis(log_probs, LABELS[which, None], 1).mean()


def train(params, which, steps, transform, **extra):
    def step(carry, _):
        updates, state = transform.update(jax.grad(nll)(carry[0], which), carry[1], carry[0], **extra)
        return (optax.apply_updates(carry[0], updates), state), None

    return jax.lax.scan(step, (params, transform.init(params)), length=steps)[0][0]


first, second = jax.random.split(jax.random.key(1))
start = {"in": jax.random.normal(first, (2, 16)), "out": jax.random.normal(second, (16, 3)) / 4}
learned = train(start | {"bias": jnp.zeros(3)}, EVERY, 200, optax.adam(0.05))
neg_grad_fn = jax.grad(lambda params: jnp.exp(-nll(params, FORGOTTEN)))  # bounded: unlikely is enough
for rho in (0.0, 0.5, 1.0):
    tx = optax.chain(targeted_sam(rho, neg_weight=0.3), optax.adam(0.01))
    forgot = train(learned, OTHERS, 300, tx, neg_grad_fn=neg_grad_fn)
    again = train(forgot, FORGOTTEN[:5], 20, optax.adam(0.01))
    right = [logits(p, w).argmax(1) == LABELS[w] for p in (forgot, again) for w in (FORGOTTEN, OTHERS)]
    shares = [float(those.mean()) for those in right]
    print("ρ = {:.1f}: forgotten {:.2f}, others {:.2f}; relearned {:.2f}, {:.2f}".format(rho, *shares))
