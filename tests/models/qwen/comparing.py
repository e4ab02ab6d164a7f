"""A tiny Qwen-VL in transformers and here, and the same pictures and rows of text for both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from sare_jax.inference.ask import ask
from sare_jax.inference.generate import generate
from sare_jax.models.interface import LoadedModel
from sare_jax.models.load import load_model
from sare_jax.models.shared.qwen_vl.images import GRID, QwenImageProcessor
from sare_jax.models.shared.qwen_vl.in_transformers import as_transformers
from sare_jax.models.shared.qwen_vl.prompts import QwenPrompter
from sare_jax.settings import GREEDY, ModelConfig
from tests.models.qwen.tiny import pictures

TOLERANCE = 1e-5
# Columns and rows of image tokens of the pictures: all are padded to the same number.
GRIDS = [(5, 3), (7, 2), (3, 5), (13, 1)]

NEW = 10  # tokens of an answer


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


def assert_logits_equal(pair: Pair) -> None:
    """Logits of rows with images of different sizes, in one padded batch."""
    tokens, lengths = rows_of(pair)
    with torch.no_grad():
        reference = pair.theirs(**theirs_batch(pair, tokens, lengths)).logits
    logits = pair.logits(pair.loaded.params, tokens, pair.features)
    for row, length in enumerate(lengths):
        assert relative(logits[row, :length], reference[row, :length]) <= TOLERANCE


def assert_greedy_answers_equal(pair: Pair) -> None:
    """Greedy answers about all pictures, in one batch here and one by one there."""
    loaded, prompter = pair.loaded, pair.prompter
    prompts = [prompter.prompt("What is this?", pair.tokens_of(index)) for index in range(len(GRIDS))]
    lengths = np.array([len(prompt) for prompt in prompts])
    tokens = np.full((len(prompts), lengths.max()), prompter.pad_id)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    ends = loaded.generation.end_ids(prompter.eos_id)
    allowed = ~np.isin(np.arange(loaded.shape.text.vocab_size), loaded.generation.suppressed)
    made = generate(
        *(loaded.graphdef, loaded.params, loaded.frozen, tokens, lengths, pair.features),
        max_new_tokens=NEW,
        end_ids=ends,
        pad_id=prompter.pad_id,
        allowed=allowed,
    )
    answers = [ids[:count].tolist() for ids, count in zip(*map(np.asarray, made[:2]), strict=True)]
    for index, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        out = pair.theirs.generate(
            input_ids=ids,
            mm_token_type_ids=(ids == prompter.image_token_id).int(),
            **pair.inputs(index),
            max_new_tokens=NEW,
            do_sample=False,
        )
        assert answers[index] == out[0, len(prompt) :].tolist()
    assert len({tuple(answer) for answer in answers}) > 1


def assert_exported_answers_equal(
    loaded: LoadedModel, params: Any, exported: Path, answering: Any, work: Path
) -> None:
    """Greedy answers of base and exported folder in transformers, and ours with the same weights."""
    for number, image in enumerate(pictures([(40, 24), (20, 60)])):
        image.save(work / f"{number}.png")
    prompter, processor = parts(loaded)
    requests = [{"image": f"{number}.png", "instruction": "What is this?"} for number in range(2)]
    common = {"images_dir": work, "processor": processor, "prompter": prompter, "max_new_tokens": 8}
    answers = []
    for folder, weights in ((loaded.folder, loaded.params), (exported, params)):
        theirs = list(answering(folder, requests, decoding=GREEDY, **common))
        out = work / f"{len(answers)}.jsonl"
        ours = ask(loaded, weights, requests, out=out, batch_size=2, name="ask", **common)
        assert [answer["text"] for answer in ours] == [text.strip() for text in theirs]
        answers.append(theirs)
    assert answers[0] != answers[1]


def relative(ours: Any, theirs: torch.Tensor) -> float:
    """The largest difference by the largest number."""
    reference = theirs.detach().numpy()
    assert ours.shape == reference.shape
    return float(np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max())
