"""A small real run for tests of loop and checkpoints: AdamW on a linear regression over shuffled rows."""

import types
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sare_jax.training.state import TrainState, init_state

ROWS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
OPTIMIZER = optax.adamw(1e-2)


def base(content_hash="aaaa"):
    """What checkpoints need to know of a base model."""
    return types.SimpleNamespace(
        params=first_state().params, folder=Path("models/tiny"), content_hash=content_hash
    )


def first_state() -> TrainState:
    return init_state({"layer": {"w": jnp.ones((4, 2)), "b": jnp.zeros(2)}}, OPTIMIZER, seed=0)


def iterator(seed=0):
    """Three batches an epoch, endless, each epoch in another order."""
    rows = grain.MapDataset.source(ROWS).shuffle(seed=seed).repeat().batch(4)
    return iter(rows.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def _step(state, rows):
    def loss_at(params):
        return jnp.mean((jnp.tanh(rows @ params["layer"]["w"]) + params["layer"]["b"] - 0.5) ** 2)

    loss, grads = jax.value_and_grad(loss_at)(state.params)
    updates, opt_state = OPTIMIZER.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    key, draw = jax.random.split(state.rng)
    metrics = {"loss": loss, "noise": jax.random.uniform(draw), "first_row": rows[0, 0]}
    return TrainState(state.step + 1, params, opt_state, key), metrics


step = jax.jit(_step, donate_argnums=0)


def numbers(state):
    """A state's arrays, PRNG key included, on the host."""
    keys = jax.random.key_data(state.rng)
    return jax.tree.map(np.array, (state.step, state.params, state.opt_state, keys))


def assert_same(a, b):
    """Bit for bit, and of the same structure."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, numbers(a), numbers(b))
