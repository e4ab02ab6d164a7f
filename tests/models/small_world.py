"""A small curated world of three captions about pictures, as the training of any family's model sees it."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sare_jax.data.batches import SETS, TokenSets, finetune_batches, tokenize
from sare_jax.data.packing import pack, packed_batches
from sare_jax.inference.features import FeatureCache
from sare_jax.models.families import model_folder, open_source
from sare_jax.models.interface import ImageProcessor, LoadedModel, Prompter
from sare_jax.models.load import load_model
from sare_jax.models.prompting import ImagePrompter
from sare_jax.records.curated import Curated, Rows, Sentences, Units
from sare_jax.settings import ModelConfig
from sare_jax.training.unlearn import attach
from tests.tiny_llava import pictures

ASK = "Please describe the image."
CAPTIONS = [
    "There is a dog on the bench, and a cat beside him.",
    "A man sits on the street. " * 30,  # longer than a target of MiniGPT-4 may be
    "Two dogs are sitting, a table and chairs.",
]
NEG = [(0, " and a cat beside him"), (2, " a table and chairs")]
POS = [(0, "There is a dog on the bench"), (2, "Two dogs are sitting")]
SENT = [1, 2]


class World(NamedTuple):
    """A loaded model, and the curated captions as its training sees them."""

    loaded: LoadedModel
    prompter: Prompter
    processor: ImageProcessor
    sets: TokenSets
    features: FeatureCache
    images: Path

    def pixels(self, names: list[str]) -> np.ndarray:
        """float32[n, H, W, 3]."""
        return np.stack(self.processor.load(self.images, names))


def make_world(settings: ModelConfig, images: Path) -> World:
    """Opens and loads a model, and draws pictures into a folder."""
    source = open_source(model_folder(settings), settings)
    loaded = load_model(source, dtype=jnp.float32, max_trainable=0.9)
    for number, picture in enumerate(pictures(len(CAPTIONS))):
        picture.save(images / f"{number}.png")
    rows = Rows(np.array([f"{n}.png" for n in range(3)]), np.arange(3), np.array(CAPTIONS))
    sent = Sentences(np.array(SENT, np.int32), np.ones(2), np.ones(2))
    processor = source.family.image_processor(source, settings)
    prompter = source.family.prompter(source, settings)
    curated = Curated(rows, _units(NEG), _units(POS), sent, {})
    sets = tokenize(curated, ImagePrompter(prompter, processor, images), ASK)
    return World(loaded, prompter, processor, sets, FeatureCache(loaded, processor, images), images)


def _units(chosen: list[tuple[int, str]]) -> Units:
    row = np.array([row for row, _ in chosen], np.int32)
    start = np.array([CAPTIONS[row].index(text) for row, text in chosen], np.int32)
    end = start + np.array([len(text) for _, text in chosen], np.int32)
    return Units(row, start, end, np.array(["x"] * len(row)), start, end, np.ones(len(row), np.float32))


def batches(world: World) -> dict[str, dict[str, Any]]:
    """Every unit once, in rows of their own and in rows of captions, with image names."""
    unpacked = {}
    for kind in SETS:
        members = getattr(world.sets, kind)
        unpacked[kind] = next(
            iter(finetune_batches(members, np.arange(len(members)), batch_size=len(members)))
        )
    rows = pack(world.sets)
    (packed,) = packed_batches(rows, batch_size=len(rows), steps=1, seed=0, pad_id=world.prompter.pad_id)
    return {"unpacked": unpacked, "packed": packed}


def attached(world: World, batch: dict[str, Any]) -> dict[str, Any]:
    """A batch with cached features in the place of image names."""
    return attach(batch, world.features)


def assert_gradients_close(actual: Any, expected: Any, tolerance: float) -> None:
    """Equal to a share of the largest number of the whole gradient.

    A key's bias moves all scores of a query alike, so that its gradient is 0 but for rounding.
    """
    atol = tolerance * max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=atol), actual, expected)
