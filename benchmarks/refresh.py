"""What Targeted-SAM loses when ε* is found in every k-th step only.

    python -m benchmarks.refresh

A small network has learnt to give each image its object with probability 0.6 and another with 0.4, the
hallucination. It unlearns the latter for 200 steps on fresh batches of 16, and is then attacked: 20 steps on
40 of the hallucinations. Printed for EFUF (no ε*) and each k, as means over seeds:

  gradients   of L_neg that a step evaluates;
  missed      ‖used − ∇L_neg(θ+ε*)‖ / ‖∇L_neg(θ) − ∇L_neg(θ+ε*)‖, median over the steps without a refresh:
              the share of what ε* changes that the memory gets wrong, on the batch at hand; EFUF has 1. The
              part of it that changes from batch to batch averages out over steps;
  P halluc.   mean probability of the hallucination, after unlearning and after the attack;
  P object    mean probability of the object after the attack.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sare_jax.objectives import UnitLoss
from sare_jax.objectives.ascent import ascent_loss
from sare_jax.objectives.unlikelihood import unlikelihood_loss
from sare_jax.optim import Perturbation, targeted_sam

INPUT, HIDDEN, OBJECTS, IMAGES, BATCH = 32, 64, 20, 2000, 16
PRETRAIN_STEPS, STEPS, ATTACK_STEPS, ATTACK_IMAGES = 300, 200, 20, 40
RHO, RATE, SEEDS = 0.5, 1e-3, 5
ERASING = {"ascent": ascent_loss, "unlikelihood": unlikelihood_loss}


def log_prob(params, images, objects):
    hidden = jnp.tanh(jnp.tanh(images @ params["a"] + params["b"]) @ params["c"] + params["d"])
    return jnp.take_along_axis(jax.nn.log_softmax(hidden @ params["e"]), objects[:, None], 1)[:, 0]


def world(seed):
    """Images float32[IMAGES, INPUT], their objects and the hallucinated ones, and a first network."""
    keys = iter(jax.random.split(jax.random.key(seed), 6))
    objects = jax.random.randint(next(keys), (IMAGES,), 0, OBJECTS)
    prototypes = jax.random.normal(next(keys), (OBJECTS, INPUT))
    images = prototypes[objects] + 0.8 * jax.random.normal(next(keys), (IMAGES, INPUT))
    params = {
        "a": jax.random.normal(next(keys), (INPUT, HIDDEN)) / INPUT**0.5,
        "b": jnp.zeros(HIDDEN),
        "c": jax.random.normal(next(keys), (HIDDEN, HIDDEN)) / HIDDEN**0.5,
        "d": jnp.zeros(HIDDEN),
        "e": jax.random.normal(next(keys), (HIDDEN, OBJECTS)) / HIDDEN**0.5,
    }
    return params, images, objects, (objects + 1) % OBJECTS


def descend(params, loss, optimizer, steps):
    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]


@functools.partial(jax.jit, static_argnames=("objective", "how"))
def run(seed, *, objective: UnitLoss, how: Perturbation, rho: jax.Array):
    """One seed: pretrain, unlearn, attack. Returns the row of the table."""
    params, images, objects, hallucinated = world(seed)

    def learnt(p):
        return -jnp.mean(0.6 * log_prob(p, images, objects) + 0.4 * log_prob(p, images, hallucinated))

    params = descend(params, learnt, optax.adam(3e-3), PRETRAIN_STEPS)
    every = how.refresh_every
    sam = targeted_sam(rho, 0.3, perturbation=how)
    probe, exact = targeted_sam(rho, 1.0, perturbation=how), targeted_sam(RHO, 1.0)
    optimizer = optax.adamw(RATE, weight_decay=0.05)

    def step(carry, key):
        params, state, moments = carry
        neg, pos = jax.random.randint(key, (2, BATCH), 0, IMAGES)

        def neg_loss(p):
            log_probs = log_prob(p, images[neg], hallucinated[neg])[:, None]
            return jnp.mean(objective(log_probs, jnp.ones_like(log_probs, bool)))

        f = jax.grad(neg_loss)
        retain = jax.grad(lambda p: -jnp.mean(log_prob(p, images[pos], objects[pos])))(params)
        zeros = jax.tree.map(jnp.zeros_like, params)
        used, _ = probe.update(zeros, state, params, neg_grad_fn=f)
        right, _ = exact.update(zeros, exact.init(params), params, neg_grad_fn=f)
        missed = optax.tree.norm(optax.tree.sub(used, right)) / optax.tree.norm(
            optax.tree.sub(f(params), right)
        )
        updates, state = sam.update(retain, state, params, neg_grad_fn=f)
        updates, moments = optimizer.update(updates, moments, params)
        return (optax.apply_updates(params, updates), state, moments), missed

    carry = (params, sam.init(params), optimizer.init(params))
    keys = jax.random.split(jax.random.key(seed + 1000), STEPS)
    (params, _, _), missed = jax.lax.scan(step, carry, keys)

    def attack(p):
        return -jnp.mean(log_prob(p, images[:ATTACK_IMAGES], hallucinated[:ATTACK_IMAGES]))

    attacked = descend(params, attack, optax.adamw(RATE), ATTACK_STEPS)
    others = slice(ATTACK_IMAGES, None)
    between = jnp.where(jnp.arange(STEPS) % every == 0, jnp.nan, missed) if every > 1 else missed
    return jnp.stack(
        [
            jnp.nanmedian(between),
            jnp.exp(log_prob(params, images, hallucinated)).mean(),
            jnp.exp(log_prob(attacked, images[others], hallucinated[others])).mean(),
            jnp.exp(log_prob(attacked, images[others], objects[others])).mean(),
        ]
    )


def main():
    print(f"{'':12} {'':11} {'gradients':>9} {'missed':>7} {'P halluc.':>10} {'attacked':>9} {'P object':>9}")
    for name, objective in ERASING.items():
        cases = {"EFUF": (Perturbation(), 0.0), "k = 1": (Perturbation(), RHO)}
        for k in (2, 5, 10):
            cases[f"k = {k}"] = Perturbation(refresh_every=k), RHO
            cases[f"k = {k}, kept"] = Perturbation(refresh_every=k, between="kept"), RHO
        for label, (how, rho) in cases.items():
            rows = [run(seed, objective=objective, how=how, rho=jnp.float32(rho)) for seed in range(SEEDS)]
            missed, *rest = np.mean(rows, 0)
            cost = 1 if rho == 0 else 1 + 1 / how.refresh_every
            print(
                f"{name:12} {label:11} {cost:9.2f} {missed:7.2f} " + "{:10.4f} {:9.4f} {:9.4f}".format(*rest),
                flush=True,
            )


if __name__ == "__main__":
    main()
