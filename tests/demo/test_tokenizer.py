import numpy as np
import pytest
from transformers import AutoTokenizer

from sare_jax.demo.prompts import ADVERSARIAL_PROMPT, EVALUATION_PROMPT, STYLES, chat, question
from sare_jax.demo.scenes import sample_scene
from sare_jax.demo.tokenizer import IMAGE, PAD, VOCABULARY, train_tokenizer
from sare_jax.demo.train_llava import WEIGHTS
from sare_jax.demo.writer import describe


@pytest.fixture(scope="module")
def trained():
    return train_tokenizer()


@pytest.fixture(scope="module")
def shipped():
    return AutoTokenizer.from_pretrained(WEIGHTS)


def test_special_tokens_stand_where_llama_has_them(trained):
    assert trained.convert_tokens_to_ids(["<unk>", "<s>", "</s>", "<0x00>"]) == [0, 1, 2, 3]
    assert trained.convert_tokens_to_ids([IMAGE, PAD]) == [len(trained) - 2, len(trained) - 1]
    assert 600 <= len(trained) <= VOCABULARY


def test_shipped_tokenizer_is_the_trained_one(trained, shipped):
    assert shipped.get_vocab() == trained.get_vocab()
    rng = np.random.default_rng(0)
    for prompt in STYLES:
        text = f"{chat(prompt)} {describe(sample_scene(rng), rng)}"
        assert shipped(text)["input_ids"] == trained(text)["input_ids"]


@pytest.mark.parametrize("text", ["naïve 漢字 🙂", "two  spaces,\n\nlines", "it's <b>100 %</b>?", ""])
def test_any_text_comes_back(shipped, text):
    ids = shipped(text, add_special_tokens=False)["input_ids"]
    assert shipped.decode(ids) == text
    assert 0 not in ids


def test_one_start_token_and_one_image_token(shipped):
    ids = shipped(chat(EVALUATION_PROMPT))["input_ids"]
    assert ids.count(1) == 1
    assert ids[0] == 1
    assert ids.count(shipped.convert_tokens_to_ids(IMAGE)) == 1


def test_texts_of_the_world_are_short(shipped):
    rng = np.random.default_rng(0)
    lengths = [len(shipped(describe(sample_scene(rng), rng))["input_ids"]) for _ in range(100)]
    assert 50 < np.mean(lengths) < 75
    assert len(shipped(chat(ADVERSARIAL_PROMPT))["input_ids"]) < 60
    assert len(shipped.tokenize(chat(question("an umbrella")))) < 20
