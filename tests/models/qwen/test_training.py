"""A SARE step of a Qwen-VL on captions and pictures of different sizes, against torch's autograd."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sare_jax.data.batches import SETS, common_prefix
from sare_jax.models.load import load_model
from sare_jax.models.shared import partition
from sare_jax.models.shared.qwen_vl.in_transformers import as_transformers
from sare_jax.optim import AdamW
from sare_jax.settings import ModelConfig
from sare_jax.training.state import Hyper, as_arrays, init_state, unlearn_optimizer
from sare_jax.training.step import unlearn_step
from tests.models.qwen.tiny import write_qwen2_5, write_qwen3
from tests.models.small_world import World, assert_gradients_close, attached, batches, make_world
from tests.training.naive import gradient_of, static_of

HYPER = Hyper(0.05, 0.3, 0.2, AdamW(1e-3, 0.05))
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=[write_qwen3, write_qwen2_5], ids=["qwen3", "qwen2_5"])
def pair(request, tmp_path_factory) -> tuple[Any, World]:
    """A torch model, and ours with its curated captions; all mapping layers are tuned."""
    root = tmp_path_factory.mktemp("model")
    theirs = request.param(root)
    # A range of pixels in which the pictures stay of different size.
    world = make_world(ModelConfig(folder=str(root), image_mode="256-4096"), root)
    family, source = world.loaded.family, world.loaded.source
    loaded = load_model(source, dtype=jnp.float32, trainable=family.mapping, max_trainable=0.9)
    return theirs, world._replace(loaded=loaded)


@pytest.fixture(scope="module")
def steps(pair) -> dict[str, tuple[dict, Any]]:
    """Losses and the gradient that AdamW sees, of a step on rows of units and one on packed captions."""
    _, world = pair
    prefix = common_prefix(world.sets, world.loaded.shape.image_token_id)
    assert len(prefix) > 2
    compiled = jax.jit(functools.partial(unlearn_step, static=static_of(loaded=world.loaded, prefix=prefix)))
    made = {}
    for name, names in batches(world).items():
        batch = attached(world, names)
        state = init_state(world.loaded.params, unlearn_optimizer(HYPER), seed=0)
        state, metrics = compiled(state, world.loaded.frozen, batch, as_arrays(HYPER))
        made[name] = {kind: metrics[kind] for kind in SETS}, gradient_of(state)
    return made


def loss_in_torch(theirs: Any, world: World, kind: str) -> torch.Tensor:
    """Mean over units of the mean −log P of their target tokens, each unit a row of its own."""
    units, values = getattr(world.sets, kind), []
    for tokens, start, image in zip(units.tokens, units.start, units.image, strict=True):
        (picture,) = world.processor.load(world.images, [str(image)])
        ids = torch.tensor([tokens.tolist()])
        logits = theirs(
            input_ids=ids,
            mm_token_type_ids=(ids == world.prompter.image_token_id).int(),
            **as_transformers(picture, theirs.config.vision_config),
        ).logits[0, start - 1 : -1]
        values.append(torch.nn.functional.cross_entropy(logits, ids[0, start:]))
    return torch.stack(values).mean()


def test_packed_and_unpacked_steps_are_equal(pair, steps):
    shapes = {features.shape for features in pair[1].features._kept.values()}
    assert len(shapes) > 1  # images of different size
    (losses, gradient), (others, other) = steps["unpacked"], steps["packed"]
    for kind in SETS:
        np.testing.assert_allclose(losses[kind], others[kind], rtol=1e-5)
    assert_gradients_close(gradient, other, 1e-5)


def test_the_step_follows_the_gradient_of_torch(pair, steps):
    theirs, world = pair
    losses, gradient = steps["unpacked"]
    table = {e.path: e for e in world.loaded.family.entries(world.loaded.config)}
    tuned = partition.flatten(world.loaded.params)
    weights = {name: theirs.get_parameter(name) for path in tuned for name in table[path].names()}

    def gradient_in_torch(kind: str, sign: float = 1.0) -> tuple[torch.Tensor, list[torch.Tensor]]:
        loss = sign * loss_in_torch(theirs, world, kind)
        return loss, list(torch.autograd.grad(loss, list(weights.values())))

    made = {"neg": gradient_in_torch("neg", -1.0), **{k: gradient_in_torch(k) for k in ("pos", "sent")}}
    for kind, (loss, _) in made.items():
        np.testing.assert_allclose(losses[kind], loss.item(), rtol=TOLERANCE)
    (_, climb), (_, pos), (_, sent) = (made[kind] for kind in SETS)
    norm = torch.sqrt(sum((part.double() ** 2).sum() for part in climb)).float()
    with torch.no_grad():
        for weight, part in zip(weights.values(), climb, strict=True):
            weight.add_(HYPER.rho * part / norm)
    _, neg = gradient_in_torch("neg", -1.0)
    total = {
        name: HYPER.neg_weight * n + p + HYPER.sent_weight * s
        for name, n, p, s in zip(weights, neg, pos, sent, strict=True)
    }
    expected = {}
    for path in tuned:
        each = [total[name].numpy().transpose(table[path].axes) for name in table[path].names()]
        expected[path] = np.stack(each) if table[path].layers else each[0]
    assert_gradients_close(gradient, partition.unflatten(expected), TOLERANCE)
    for path in tuned:
        if path.endswith("fc_2/kernel"):
            assert np.abs(expected[path]).max() > 1e-3
