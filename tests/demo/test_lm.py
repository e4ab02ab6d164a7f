import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sare_jax.demo import train_lm
from sare_jax.demo.scenes import sample_scene
from sare_jax.demo.writer import describe
from sare_jax.evaluation.metrics import perplexity


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_transformers_loads_it_like_any_gpt2():
    model = AutoModelForCausalLM.from_pretrained(train_lm.OUT)
    tokenizer = AutoTokenizer.from_pretrained(train_lm.OUT)
    assert model.config.model_type == "gpt2"
    assert len(tokenizer) == model.config.vocab_size
    text = "A café, 2 dogs\nand a 🐶!"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert sum(path.stat().st_size for path in train_lm.OUT.iterdir()) < 1.5e6


def test_it_expects_the_worlds_language_and_is_surprised_by_broken_language():
    rng = np.random.default_rng(99)
    texts = [describe(sample_scene(rng), rng) for _ in range(40)]
    shuffled = [" ".join(rng.permutation(text.split())) for text in texts]
    repeated = [text.split(",")[0] + " a dog a dog a dog a dog a dog" for text in texts]
    good, bad, stuck = (perplexity.score(t, train_lm.OUT)["mean"] for t in (texts, shuffled, repeated))
    assert good < 1.7
    assert bad > 10 * good
    assert stuck > 3 * good


def test_training_is_seeded(tmp_path):
    for name in ("a", "b"):
        train_lm.train(tmp_path / name, steps=2, seed=5, batch_size=2, vocabulary_texts=20)
    for file in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
