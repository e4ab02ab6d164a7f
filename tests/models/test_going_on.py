"""In every family: questions that go on from one reading of an image, and keys kept in small formats."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.inference.features import FeatureCache
from sare_jax.inference.sharing import arrays_of, batches_of
from sare_jax.models.families import model_folder, open_source
from sare_jax.models.interface import LoadedModel
from sare_jax.models.load import load_model
from sare_jax.models.prompting import ImagePrompter
from sare_jax.settings import ModelConfig
from tests.models.minigpt4.tiny import write_minigpt4
from tests.models.qwen import tiny
from tests.tiny_llava import pictures, write_llava
from tests.tiny_owl import write_owl

WRITE = {
    "llava": write_llava,
    "mplug_owl": write_owl,
    "qwen3_vl": lambda folder: tiny.write_qwen3(folder),
    "qwen2_5_vl": lambda folder: tiny.write_qwen2_5(folder),
}
FAMILIES = [*WRITE, "minigpt4_llama2", "minigpt4_vicuna"]
QUESTIONS = ["Is there a cat?", "Is there a dog on the bench?", "What is this?"]
FURTHER = 4  # tokens that each question is continued by


class Asked(NamedTuple):
    """Questions about two images: each by itself, and those about an image in one row."""

    loaded: LoadedModel
    prompts: list[list[int]]
    images: list[str]
    features: FeatureCache
    pad_id: int
    image_token: int


@pytest.fixture(scope="module", params=FAMILIES)
def asked(request, tmp_path_factory) -> Asked:
    root = tmp_path_factory.mktemp(request.param)
    settings = written(request.param, root)
    source = open_source(model_folder(settings), settings)
    loaded = load_model(source, dtype=jnp.float32, max_trainable=0.9)
    processor = source.family.image_processor(source, settings)
    prompter = source.family.prompter(source, settings)
    drawn = tiny.pictures([(97, 95), (129, 65)]) if "qwen" in request.param else pictures(2)
    for number, picture in enumerate(drawn):
        picture.save(root / f"{number}.png")
    about = ImagePrompter(prompter, processor, root)
    images = [f"{number}.png" for number in range(2) for _ in QUESTIONS]
    prompts = [about.prompt(image, text) for image, text in zip(images, QUESTIONS * 2, strict=True)]
    features = FeatureCache(loaded, processor, root)
    return Asked(loaded, prompts, images, features, prompter.pad_id, prompter.image_token_id)


def written(family: str, root: Path) -> ModelConfig:
    if family.startswith("minigpt4"):
        return write_minigpt4(root, family.removeprefix("minigpt4_")).settings
    WRITE[family](root)
    return ModelConfig(folder=str(root))


def continued(asked: Asked, most: int, cache: str = "as_weights") -> np.ndarray:
    """float32[6, 1 + FURTHER, V], logits behind each question, and behind further tokens of it."""
    (batch,) = batches_of(
        asked.prompts,
        asked.images,
        batch_size=len(asked.prompts),
        new=FURTHER,
        most=most,
        image_token=asked.image_token,
    )
    assert batch.width == most
    arrays = arrays_of(batch, asked.prompts, len(batch.rows), asked.pad_id)
    features = asked.features([asked.images[row[0]] for row in arrays.indices])
    further = np.random.default_rng(0).integers(10, 200, (len(asked.prompts), FURTHER))

    @jax.jit
    def run(params, frozen, further):
        model = asked.loaded.merge(params, frozen)
        parts, starts = model.parts(), jnp.asarray(arrays.lengths)[:, None]
        steps = FURTHER + (0 if arrays.tails is None else arrays.tails.shape[2])
        logits, kept = model.prefill(arrays.tokens, features, arrays.lengths, most, steps, cache)
        logits = logits[:, None]
        if arrays.tails is not None:
            logits, kept = model.extend(jnp.asarray(arrays.tails), arrays.lengths, arrays.ends, kept, parts)
            starts = starts + arrays.ends
        every = [logits]
        for step in range(FURTHER):
            logits, kept = model.decode(further[..., step], starts + step, kept, parts)
            every.append(logits)
        return jnp.stack(every, axis=2)

    made = run(asked.loaded.params, asked.loaded.frozen, jnp.asarray(further[arrays.indices]))
    answers = np.zeros((len(asked.prompts), *made.shape[2:]), np.float32)
    answers[arrays.indices.reshape(-1)] = np.asarray(made).reshape(-1, *made.shape[2:])
    return answers


@pytest.fixture(scope="module")
def alone(asked) -> np.ndarray:
    return continued(asked, 1)


def test_questions_that_share_an_image_get_the_logits_of_each_alone(asked, alone):
    together = continued(asked, len(QUESTIONS))
    assert np.abs(together - alone).max() <= 2e-5 * np.abs(alone).max()
    assert np.ptp(alone[:3], axis=0).max() > 1e-2 * np.abs(alone).max()  # they do differ by question


@pytest.mark.parametrize(("cache", "at_most"), [("int8", 0.03), ("fp8", 0.15)])
@pytest.mark.parametrize("most", [1, len(QUESTIONS)])
def test_small_caches_change_logits_by_their_rounding(asked, alone, cache, at_most, most):
    error = np.abs(continued(asked, most, cache) - alone)[:, 1:].max() / np.abs(alone).max()
    assert 0 < error <= at_most
