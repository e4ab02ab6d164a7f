import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoProcessor

from sare_jax.demo import lessons as lessons_module
from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.conversations import descriptions, questions
from sare_jax.demo.lessons import coverage, draw_scenes, make_lessons, to_pixels
from sare_jax.demo.llava_folder import make_model
from sare_jax.demo.prompts import ADVERSARIAL_PROMPT
from sare_jax.demo.render import render
from sare_jax.demo.scenes import Object, Scene, sample_scene
from sare_jax.demo.tokenizer import train_tokenizer
from sare_jax.demo.train_llava import WEIGHTS, lesson_losses


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(scenes=50)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return make_model(tokenizer)


def test_packed_loss_is_the_loss_of_separate_rows(model, tokenizer):
    packed = make_lessons(3, tokenizer, np.random.default_rng(4))
    told, answered = lesson_losses(model, packed)

    rng = np.random.default_rng(4)  # the same draws again
    scenes, pixels = draw_scenes(3, rng)
    sums = {True: [], False: []}
    for scene, image in zip(scenes, pixels, strict=True):
        conversations = descriptions(scene, rng, 1.0) + questions(scene, rng)
        for prompt, answer in conversations:
            text = lessons_module.chat(prompt).replace("<image>", "<image>" * 64)
            start = len(tokenizer(text)["input_ids"])
            ids = torch.tensor([tokenizer(f"{text} {answer}")["input_ids"] + [tokenizer.eos_token_id]])
            logits = model(input_ids=ids, pixel_values=image[None]).logits[0, start - 1 : -1]
            sums[answer in ("Yes.", "No.")] += functional.cross_entropy(
                logits, ids[0, start:], reduction="none"
            ).tolist()
    assert told.item() == pytest.approx(np.mean(sums[False]), rel=1e-5)
    assert answered.item() == pytest.approx(np.mean(sums[True]), rel=1e-5)


def test_targets_are_the_answers(tokenizer):
    batch = make_lessons(4, tokenizer, np.random.default_rng(0))
    for row, asked in zip(batch.targets, batch.is_question, strict=True):
        texts = tokenizer.decode(row[(row >= 0) & ~asked]).split("</s>")
        assert len(texts) == 3
        assert all(text.strip().endswith(".") for text in texts[:2])
        answers = tokenizer.decode(row[(row >= 0) & asked]).replace("</s>", " ").split()
        assert answers == ["Yes.", "No."] * 2


def test_questions_are_true_and_sometimes_follow_the_adversarial_prompt():
    rng = np.random.default_rng(0)
    adversarial = 0
    for _ in range(200):
        scene = sample_scene(rng)
        for prompt, answer in questions(scene, rng):
            adversarial += prompt.startswith(ADVERSARIAL_PROMPT)
            name = prompt.removesuffix(" in the image?").split()[-1]
            assert (name in scene.categories) == (answer == "Yes.")
    assert 0.15 < adversarial / 800 < 0.35


def test_pixels_are_those_of_the_image_processor():
    processor = AutoProcessor.from_pretrained(WEIGHTS).image_processor
    image = render(sample_scene(np.random.default_rng(0)), np.random.default_rng(0))
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(to_pixels(image), expected, atol=1e-5, rtol=0)


def test_coverage_counts_what_the_nearer_object_leaves():
    far, near = (0.0, 0.0, 32.0, 16.0), (16.0, 0.0, 24.0, 16.0)
    scene = Scene(
        "park", (Object("dog", far, far, "brown", False), Object("cow", near, near, "brown", False))
    )
    share = coverage([scene])
    dog, cow = (list(CATEGORIES).index(name) for name in ("dog", "cow"))
    assert share.shape == (1, 64, len(CATEGORIES))
    assert share[0, 0, dog] == 1
    assert share[0, 1, dog] == 0.5
    assert share[0, 1, cow] == 0.5
    assert share[0, 2:].sum() == 0
