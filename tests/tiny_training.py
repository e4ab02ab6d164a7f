"""A tiny random LLaVA and curated sets in its vocabulary of letters, for tests of training and attacks."""

import dataclasses
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from sare_jax.models.interface import LoadedModel
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.llava.modeling import Llava
from sare_jax.models.load import abstract, stacked_paths
from sare_jax.models.shared import partition
from sare_jax.models.shared.config import TextConfig, VisionConfig
from sare_jax.models.shared.generation import GenerationRules
from sare_jax.models.shared.target import Target, here
from sare_jax.records.curated import Curated, Rows, Sentences, Units
from sare_jax.training.sharding import frozen_placement, replicated

LETTERS = " abcdefghijklmnopqrstuvwxyz,."
PATCHES = 4
IMAGE, PAD, BOS, EOS = len(LETTERS), len(LETTERS) + 1, len(LETTERS) + 2, len(LETTERS) + 3
CONFIG = LlavaConfig(
    vision=VisionConfig(8, 16, 2, 2, 3, 8, 4, "quick_gelu", 1e-5),
    text=TextConfig(len(LETTERS) + 4, 16, 32, 2, 4, 2, 4, 10000.0, 1e-6, False),
    image_token_id=IMAGE,
    feature_layer=-2,
    keep_class_token=False,
)
SENTENCES = [
    "a cat on a mat, a dog near it.",
    "two cups, one fork, a warm lamp.",
    "a bus in the street, a man with a hat, cars.",
    "birds over a lake, a boat, trees",
]


def tiny_llava(seed: int = 0, dtype=jnp.float32) -> LoadedModel:
    """Random weights, the projector trainable in float32 and the rest frozen in `dtype`."""
    graphdef, state = nnx.split(Llava(CONFIG, here(), rngs=nnx.Rngs(seed)))
    flat = partition.flatten(nnx.to_pure_dict(state))
    params = {path: leaf for path, leaf in flat.items() if path.startswith("projector/")}
    frozen = {path: leaf.astype(dtype) for path, leaf in flat.items() if path not in params}
    return LoadedModel(
        graphdef,
        partition.unflatten(params),
        partition.unflatten(frozen),
        CONFIG,
        FAMILY,
        types.SimpleNamespace(folder=Path("tiny")),
        f"hash-{seed}",
        GenerationRules(),
    )


def spread(loaded: LoadedModel, mesh: Mesh) -> LoadedModel:
    """The model where `load_model` would put it, given the mesh."""
    place = frozen_placement(mesh, "projector/.*", stacked_paths(FAMILY, CONFIG))

    def move(tree):
        flat = partition.flatten(tree)
        return partition.unflatten(
            {path: jax.device_put(leaf, place(path, leaf.shape)) for path, leaf in flat.items()}
        )

    graphdef, _ = abstract(FAMILY, CONFIG, Target.of(replicated(mesh)))
    return dataclasses.replace(
        loaded, graphdef=graphdef, params=move(loaded.params), frozen=move(loaded.frozen)
    )


class Letters:
    """A tokenizer of one letter a token, with the interface of `ImagePrompter`."""

    pad_id = PAD
    end_ids = (EOS,)
    longest_target = None

    def answer(self, image, instruction, text, spans, eos):
        """<bos> image slots, the instruction's letters, the text's letters, <eos>."""
        prompt = [BOS, *[IMAGE] * PATCHES, *(LETTERS.index(letter) for letter in instruction)]
        tokens = [*prompt, *(LETTERS.index(letter) for letter in text), *[EOS] * eos]
        ends = [len(tokens) if end == len(text) else end + len(prompt) for _, end in spans]
        return tokens, [(start + len(prompt), end) for (start, _), end in zip(spans, ends, strict=True)]


def features(names) -> np.ndarray:
    """float32[n, P, D_v], fixed by each name."""
    rows = [np.random.default_rng(list(name.encode())).normal(size=(PATCHES, 8)) for name in names]
    return np.stack(rows).astype(np.float32)


def units(count: int, seed: int) -> Units:
    """Random comma-separated pieces of `SENTENCES`."""
    rng = np.random.default_rng(seed)
    chosen = []
    for _ in range(count):
        row = int(rng.integers(len(SENTENCES)))
        pieces = SENTENCES[row].rstrip(".").split(",")
        piece = int(rng.integers(len(pieces)))
        start = len(",".join(pieces[:piece])) + (piece > 0)
        chosen.append((row, start, start + len(pieces[piece])))
    row, start, end = np.array(chosen or np.zeros((0, 3)), np.int32).reshape(-1, 3).T
    name = np.array(["thing"] * count, np.str_)
    return Units(row, start, end, name, start, end, np.ones(count, np.float32))


def curated(num_neg: int = 10, num_pos: int = 7, num_sent: int = 3) -> Curated:
    """Sets of the given sizes over four captions."""
    rows = Rows(
        np.array([f"{index}.png" for index in range(len(SENTENCES))]),
        np.arange(len(SENTENCES), dtype=np.int64),
        np.array(SENTENCES),
    )
    ones = np.ones(num_sent, np.float32)
    sent = Sentences(np.arange(num_sent, dtype=np.int32) % len(SENTENCES), ones, ones)
    return Curated(rows, units(num_neg, 1), units(num_pos, 2), sent, {"rule": "test"})


def attach(batch):
    """A host batch with features in place of image names."""
    if "image" in batch:
        return {**{k: v for k, v in batch.items() if k != "image"}, "features": features(batch["image"])}
    return jax.tree.map(attach, batch, is_leaf=lambda x: "image" in x)
