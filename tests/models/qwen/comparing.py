"""A tiny Qwen-VL in transformers and here, and the same pictures and rows of text for both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from sare_jax.models.interface import LoadedModel
from sare_jax.models.load import load_model
from sare_jax.models.shared.qwen_vl.images import GRID, QwenImageProcessor
from sare_jax.models.shared.qwen_vl.in_transformers import as_transformers
from sare_jax.models.shared.qwen_vl.prompts import QwenPrompter
from sare_jax.settings import ModelConfig
from tests.models.qwen.tiny import pictures

TOLERANCE = 1e-5
# Columns and rows of image tokens of the pictures: all are padded to the same number.
GRIDS = [(5, 3), (7, 2), (3, 5), (13, 1)]


class Pair(NamedTuple):
    """A torch model and ours from its folder, with compiled methods.

    Attributes:
      theirs: the torch model.
      loaded: ours.
      prompter: its tokenizer and chat form.
      pictures: float32[I, N, C], the pictures of `GRIDS` as the processor gives them.
      features: float[I, N / 4, F], what the tower makes of them.
      embeds: float[I, N / 4, E], what the mergers make of these.
      logits: (params, tokens int[B, T], features) -> float32[B, T, V].
    """

    theirs: Any
    loaded: LoadedModel
    prompter: QwenPrompter
    pictures: np.ndarray
    features: jax.Array
    embeds: jax.Array
    logits: Callable

    def inputs(self, index: int) -> dict[str, Any]:
        """A picture as transformers takes it."""
        return as_transformers(self.pictures[index], self.theirs.config.vision_config)

    def tokens_of(self, index: int) -> int:
        """Image tokens of a picture."""
        height, width = self.pictures[index, 0, -GRID:]
        return int(height * width) // self.loaded.config.patches.merge**2


def make_pair(folder: Path, theirs: Any) -> Pair:
    """Loads the model of a folder, and computes features and embeddings of the pictures."""
    loaded = load_model(folder, dtype=jnp.float32)
    prompter, processor = parts(loaded)
    factor = loaded.config.patches.factor
    for number, image in enumerate(pictures([(factor * c + 1, factor * r - 1) for c, r in GRIDS])):
        image.save(folder / f"{number}.png")
    made = np.stack(processor.load(folder, [f"{number}.png" for number in range(len(GRIDS))]))

    @jax.jit
    def encode(pictures):
        model = loaded.merge(loaded.params, loaded.frozen)
        features = model.encode_images(pictures)
        return features, model.project(features)

    @jax.jit
    def logits(params, tokens, features):
        model = loaded.merge(params, loaded.frozen)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        return model.logits(model.read(tokens, model.project(features), positions=positions))

    return Pair(theirs, loaded, prompter, made, *encode(made), logits)


def parts(loaded: LoadedModel) -> tuple[QwenPrompter, QwenImageProcessor]:
    """Prompter and image processor of a model."""
    family, settings = loaded.family, ModelConfig()
    prompter: Any = family.prompter(loaded.source, settings)
    processor: Any = family.image_processor(loaded.source, settings)
    return prompter, processor


def rows_of(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """A row of text for each picture, with the image at different places: int64[B, T] and lengths."""
    rng, rows = np.random.default_rng(0), []
    for index in range(len(GRIDS)):
        text = rng.integers(10, 400, 5 + 2 * index).tolist()
        slots = [pair.prompter.image_token_id] * pair.tokens_of(index)
        rows.append([*text[: index + 1], *slots, *text[index + 1 :]])
    lengths = np.array([len(row) for row in rows])
    tokens = np.full((len(rows), lengths.max()), pair.prompter.pad_id)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    return tokens, lengths


def theirs_batch(pair: Pair, tokens: np.ndarray, lengths: np.ndarray) -> dict[str, torch.Tensor]:
    """A padded batch of rows and pictures as transformers takes it."""
    ids, each = torch.from_numpy(tokens), [pair.inputs(index) for index in range(len(tokens))]
    return {
        "input_ids": ids,
        "attention_mask": torch.from_numpy(np.arange(tokens.shape[1]) < lengths[:, None]).long(),
        "mm_token_type_ids": (ids == pair.prompter.image_token_id).int(),
        **{key: torch.cat([one[key] for one in each]) for key in each[0]},
    }


def relative(ours: Any, theirs: torch.Tensor) -> float:
    """The largest difference by the largest number."""
    reference = theirs.detach().numpy()
    assert ours.shape == reference.shape
    return float(np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max())
