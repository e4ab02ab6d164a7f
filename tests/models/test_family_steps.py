"""A training step of mPLUG-Owl and both forms of MiniGPT-4: packed, unpacked, and from pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.data.batches import SETS, common_prefix
from sare_jax.optim import AdamW
from sare_jax.settings import ModelConfig
from sare_jax.training.state import Hyper, as_arrays, init_state, unlearn_optimizer
from sare_jax.training.step import unlearn_step
from tests.models.minigpt4.tiny import write_minigpt4
from tests.models.small_world import World, assert_gradients_close, attached, batches, make_world
from tests.tiny_owl import write_owl
from tests.training.naive import assert_trees_close, gradient_of, static_of

HYPER = Hyper(0.05, 0.3, 0.2, AdamW(1e-3, 0.05))


@pytest.fixture(scope="module", params=["mplug_owl", "llama2", "vicuna"])
def world(request, tmp_path_factory) -> World:
    root = tmp_path_factory.mktemp(request.param)
    if request.param != "mplug_owl":
        return make_world(write_minigpt4(root, request.param).settings, root)
    write_owl(root)
    return make_world(ModelConfig(folder=str(root)), root)


@pytest.fixture(scope="module")
def step(world):
    """(parameters, batch) → losses and the gradient that AdamW sees, of a compiled step."""
    prefix = common_prefix(world.sets, world.loaded.shape.image_token_id)
    compiled = jax.jit(functools.partial(unlearn_step, static=static_of(loaded=world.loaded, prefix=prefix)))

    def run(params, batch):
        state = init_state(params, unlearn_optimizer(HYPER), seed=0)
        state, metrics = compiled(state, world.loaded.frozen, batch, as_arrays(HYPER))
        return {kind: metrics[kind] for kind in SETS}, gradient_of(state)

    return run


@pytest.mark.parametrize("world", ["mplug_owl"], indirect=True)  # MiniGPT-4: `minigpt4/test_training`
def test_packed_equals_unpacked(world, step):
    unpacked, packed = (
        step(world.loaded.params, attached(world, names)) for names in batches(world).values()
    )
    for kind in SETS:
        np.testing.assert_allclose(packed[0][kind], unpacked[0][kind], rtol=1e-5)
    assert_gradients_close(packed[1], unpacked[1], 1e-5)


def test_cached_features_are_those_before_the_first_trained_layer(world, step):
    """Features made at the starting weights serve a step at others, as features from pixels there do."""
    names = batches(world)["unpacked"]
    cached = attached(world, names)
    moved = jax.tree.map(lambda x: 1.5 * x, world.loaded.params)
    encode = jax.jit(lambda params, x: world.loaded.merge(params, world.loaded.frozen).encode_images(x))
    fresh = {
        kind: cached[kind] | {"features": encode(moved, jnp.asarray(world.pixels(part["image"].tolist())))}
        for kind, part in names.items()
    }
    by_cache, from_pixels = step(moved, cached), step(moved, fresh)
    assert_trees_close(by_cache[0], from_pixels[0], rtol=1e-5)
    assert_gradients_close(by_cache[1], from_pixels[1], 1e-5)
    # Which parameters and which picture it is, the gradients tell.
    shuffled = {kind: part | {"features": part["features"][::-1]} for kind, part in cached.items()}
    for params, batch in ((world.loaded.params, cached), (moved, shuffled)):
        with pytest.raises(AssertionError):
            assert_gradients_close(step(params, batch)[1], by_cache[1], 1e-2)
