"""A training step of both forms on captions and pictures: packed, unpacked, and against losses in torch."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sare_jax.data.batches import SETS, TokenSets, common_prefix, finetune_batches, tokenize
from sare_jax.data.packing import pack, packed_batches
from sare_jax.inference.features import FeatureCache
from sare_jax.models.families import open_source
from sare_jax.models.interface import LoadedModel, Prompter
from sare_jax.models.load import load_model
from sare_jax.models.prompting import ImagePrompter
from sare_jax.optim import AdamW
from sare_jax.records.curated import Curated, Rows, Sentences, Units
from sare_jax.training.state import Hyper, as_arrays, init_state, unlearn_optimizer
from sare_jax.training.step import unlearn_step
from tests.models.minigpt4 import oracle
from tests.models.minigpt4.tiny import Written, write_minigpt4
from tests.tiny_llava import pictures
from tests.training.naive import assert_trees_close, gradient_of, static_of

ASK = "Please describe the image."
CAPTIONS = [
    "There is a dog on the bench, and a cat beside him.",
    "A man sits on the street. " * 30,  # longer than a target may be
    "Two dogs are sitting, a table and chairs.",
]
NEG = [(0, " and a cat beside him"), (2, " a table and chairs")]
POS = [(0, "There is a dog on the bench"), (2, "Two dogs are sitting")]
SENT = [1, 2]
HYPER = Hyper(0.05, 0.3, 0.2, AdamW(1e-3, 0.05))


class World(NamedTuple):
    """A tiny model on disk and loaded, and curated captions about pictures as its training sees them."""

    theirs: Written
    loaded: LoadedModel
    prompter: Prompter
    sets: TokenSets
    features: FeatureCache
    images: Path


def units(chosen: list[tuple[int, str]]) -> Units:
    row = np.array([row for row, _ in chosen], np.int32)
    start = np.array([CAPTIONS[row].index(text) for row, text in chosen], np.int32)
    end = start + np.array([len(text) for _, text in chosen], np.int32)
    return Units(row, start, end, np.array(["x"] * len(row)), start, end, np.ones(len(row), np.float32))


@pytest.fixture(scope="module", params=["llama2", "vicuna"])
def world(request, tmp_path_factory) -> World:
    root = tmp_path_factory.mktemp(request.param)
    theirs = write_minigpt4(root, request.param)
    source = open_source(theirs.settings.folder, theirs.settings)
    loaded = load_model(source, dtype=jnp.float32, max_trainable=0.9)
    for number, picture in enumerate(pictures(len(CAPTIONS))):
        picture.save(root / f"{number}.png")
    rows = Rows(np.array([f"{n}.png" for n in range(3)]), np.arange(3), np.array(CAPTIONS))
    sent = Sentences(np.array(SENT, np.int32), np.ones(2), np.ones(2))
    processor = source.family.image_processor(source, theirs.settings)
    prompter = source.family.prompter(source, theirs.settings)
    sets = tokenize(
        Curated(rows, units(NEG), units(POS), sent, {}), ImagePrompter(prompter, processor, root), ASK
    )
    return World(theirs, loaded, prompter, sets, FeatureCache(loaded, processor, root), root)


def batches(world: World) -> dict[str, dict]:
    """Every unit once, in rows of their own and in rows of captions."""
    unpacked = {}
    for kind in SETS:
        found = getattr(world.sets, kind)
        unpacked[kind] = next(iter(finetune_batches(found, np.arange(len(found)), batch_size=len(found))))
    rows = pack(world.sets)
    (packed,) = packed_batches(rows, batch_size=len(rows), steps=1, seed=0, pad_id=world.prompter.pad_id)
    return {"unpacked": attached(world, unpacked), "packed": attached(world, packed)}


def attached(world: World, batch: dict) -> dict:
    made = {}
    for name, part in batch.items():
        made[name] = {key: value for key, value in part.items() if key != "image"}
        if "image" in part:
            made[name]["features"] = world.features(part["image"].tolist())
    return made


def losses_in_torch(world: World) -> dict[str, float]:
    """Means over units of the mean −log P of their target tokens, each unit a row of its own."""
    config, theirs = world.loaded.config, world.theirs
    processor = world.loaded.family.image_processor(world.loaded.source, theirs.settings)
    means = {}
    for kind in SETS:
        found, values = getattr(world.sets, kind), []
        for tokens, start, image in zip(found.tokens, found.start, found.image, strict=True):
            pixels = torch.from_numpy(processor.load(world.images, [str(image)])[0].transpose(2, 0, 1).copy())
            ids = tokens.tolist()
            with torch.no_grad():
                embeds = oracle.embeddings(
                    theirs.tensors, theirs.llama, ids, config.image_token_id, pixels[None], theirs.towers
                )
                logits = theirs.llama(inputs_embeds=embeds).logits[0, start - 1 : -1]
                values.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[start:])).item())
        means[kind] = float(np.mean(values))
    return means


def test_packed_and_unpacked_steps_are_equal_and_their_losses_those_of_torch(world):
    assert len(world.sets.sent.tokens[0]) - world.sets.sent.start[0] == 160
    expected = losses_in_torch(world)
    expected["neg"] *= -1  # L_neg of gradient ascent
    prefix = common_prefix(world.sets, world.loaded.config.image_token_id)
    assert prefix[0] == 1
    assert len(prefix) > 3
    static = static_of(loaded=world.loaded, prefix=prefix)
    compiled = jax.jit(functools.partial(unlearn_step, static=static))
    found = []
    for batch in batches(world).values():
        state = init_state(world.loaded.params, unlearn_optimizer(HYPER), seed=0)
        state, metrics = compiled(state, world.loaded.frozen, batch, as_arrays(HYPER))
        for kind in SETS:
            np.testing.assert_allclose(metrics[kind], expected[kind], rtol=1e-4)
        found.append(gradient_of(state))
    assert_trees_close(*found, rtol=1e-4)
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(found[0]))
