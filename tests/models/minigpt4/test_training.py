"""A training step of both forms on captions and pictures: packed, unpacked, and against losses in torch."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest
import torch

from sare_jax.data.batches import SETS, common_prefix
from sare_jax.optim import AdamW
from sare_jax.training.state import Hyper, as_arrays, init_state, unlearn_optimizer
from sare_jax.training.step import unlearn_step
from tests.models.minigpt4 import oracle
from tests.models.minigpt4.tiny import Written, write_minigpt4
from tests.models.small_world import World, attached, batches, make_world
from tests.training.naive import assert_trees_close, gradient_of, static_of

HYPER = Hyper(0.05, 0.3, 0.2, AdamW(1e-3, 0.05))


class Pair(NamedTuple):
    """A tiny model in torch, and ours with its curated captions."""

    theirs: Written
    world: World


@pytest.fixture(scope="module", params=["llama2", "vicuna"])
def pair(request, tmp_path_factory) -> Pair:
    root = tmp_path_factory.mktemp(request.param)
    theirs = write_minigpt4(root, request.param)
    return Pair(theirs, make_world(theirs.settings, root))


def losses_in_torch(pair: Pair) -> dict[str, float]:
    """Means over units of the mean −log P of their target tokens, each unit a row of its own."""
    theirs, world = pair
    config = world.loaded.config
    means = {}
    for kind in SETS:
        found, values = getattr(world.sets, kind), []
        for tokens, start, image in zip(found.tokens, found.start, found.image, strict=True):
            pixels = torch.from_numpy(world.pixels([str(image)]).transpose(0, 3, 1, 2).copy())
            ids = tokens.tolist()
            with torch.no_grad():
                embeds = oracle.embeddings(
                    theirs.tensors, theirs.llama, ids, config.image_token_id, pixels, theirs.towers
                )
                logits = theirs.llama(inputs_embeds=embeds).logits[0, start - 1 : -1]
                values.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[start:])).item())
        means[kind] = float(np.mean(values))
    return means


def test_packed_and_unpacked_steps_are_equal_and_their_losses_those_of_torch(pair):
    world = pair.world
    assert len(world.sets.sent.tokens[0]) - world.sets.sent.start[0] == 160
    expected = losses_in_torch(pair)
    expected["neg"] *= -1  # L_neg of gradient ascent
    prefix = common_prefix(world.sets, world.loaded.config.image_token_id)
    assert prefix[0] == 1
    assert len(prefix) > 3
    static = static_of(loaded=world.loaded, prefix=prefix)
    compiled = jax.jit(functools.partial(unlearn_step, static=static))
    found = []
    for names in batches(world).values():
        batch = attached(world, names)
        state = init_state(world.loaded.params, unlearn_optimizer(HYPER), seed=0)
        state, metrics = compiled(state, world.loaded.frozen, batch, as_arrays(HYPER))
        for kind in SETS:
            np.testing.assert_allclose(metrics[kind], expected[kind], rtol=1e-4)
        found.append(gradient_of(state))
    assert_trees_close(*found, rtol=1e-4)
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(found[0]))
