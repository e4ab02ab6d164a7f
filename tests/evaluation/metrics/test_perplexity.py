import json
import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sare_jax.errors import UserError
from sare_jax.evaluation.metrics import perplexity
from sare_jax.evaluation.metrics.language_model import load, negative_log_likelihood, windows_of
from tests.evaluation.small_worlds import make_lm

END = 256  # <|endoftext|>, start and end token


def reference_nll(folder, ids):
    """Loss of one sequence on its own, from transformers' own loss: summed over all tokens but the first."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tensor = torch.tensor([ids])
    with torch.no_grad():
        return model(tensor, labels=tensor).loss.item() * (len(ids) - 1)


def byte_ids(folder, text):
    return load(str(folder)).tokenizer(text, add_special_tokens=False)["input_ids"]


def test_pp_01_padding_does_not_change_a_score(lm_folder):
    texts = ["Hello, my", "A long caption that makes everyone else be padded", "x"]
    together = perplexity.score(texts, lm_folder)["per_image"]["perplexity"]
    alone = [perplexity.score([text], lm_folder)["mean"] for text in texts]
    assert together == pytest.approx(alone, rel=1e-5)
    by_hand = [math.exp(reference_nll(lm_folder, [END, *byte_ids(lm_folder, t)]) / len(t)) for t in texts]
    assert together == pytest.approx(by_hand, rel=1e-4)


def test_pp_02_the_start_token_is_attended_and_reported(lm_folder):
    text = "a dog runs"
    with_start = perplexity.score([text], lm_folder)
    without = perplexity.score([text], lm_folder, start="none")
    ids = byte_ids(lm_folder, text)
    assert with_start["per_image"]["nll"][0] == pytest.approx(reference_nll(lm_folder, [END, *ids]), abs=1e-3)
    assert without["per_image"]["nll"][0] == pytest.approx(reference_nll(lm_folder, ids), abs=1e-3)
    assert (with_start["start_token"], without["start_token"]) == ("<|endoftext|>", None)
    assert with_start["per_image"]["tokens"] == [len(ids)]
    assert without["per_image"]["tokens"] == [len(ids) - 1]


def test_pp_04_no_pad_token_no_growth(lm_folder):
    lm = load(str(lm_folder))
    assert lm.tokenizer.pad_token is None
    result = perplexity.score(["a dog", "two dogs and a cat"], lm_folder)
    assert lm.model.get_input_embeddings().weight.shape[0] == 257
    assert lm.tokenizer.pad_token is None
    assert np.isfinite(result["mean"])


def test_pp_05_a_tokenizer_without_start_token_works(tmp_path):
    folder = make_lm(tmp_path, positions=64, bos=None)
    result = perplexity.score(["a dog"], folder)
    assert result["start_token"] is None
    assert result["per_image"]["tokens"] == [4]


def test_pp_06_long_texts_are_windowed(tmp_path):
    folder = make_lm(tmp_path, positions=1024, bos="<|endoftext|>")
    result = perplexity.score(["dog " * 375, "a cat"], folder)
    assert result["context"] == [1024, 512]
    assert result["windows"] == 2
    assert result["per_image"]["tokens"] == [1500, 5]
    assert np.isfinite(result["mean"])


def test_windows_cap_at_the_models_positions_and_equal_a_loop(lm_folder):
    ids = [END, *byte_ids(lm_folder, "A dog runs. " * 15)]
    lm = load(str(lm_folder))
    assert (lm.context, lm.stride) == (64, 32)
    loss, tokens, used = negative_log_likelihood(lm, [ids])
    model = AutoModelForCausalLM.from_pretrained(lm_folder)
    total, covered = 0.0, 1
    for begin in range(0, len(ids), 32):
        end = min(begin + 64, len(ids))
        labels = torch.tensor([ids[begin:end]])
        labels[:, : covered - begin] = -100
        count = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total += model(torch.tensor([ids[begin:end]]), labels=labels).loss.item() * count
        covered = end
        if end == len(ids):
            break
    assert tokens[0] == len(ids) - 1
    assert used[0] == 5
    assert loss[0] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("length", [0, 1, 2, 63, 64, 65, 96, 97, 500])
def test_each_token_but_the_first_counts_once(length):
    windows = windows_of(list(range(length)), 0, 64, 32)
    counted = [token for window in windows for token in window.tokens[-window.scored :]]
    assert counted == list(range(1, length))
    assert all(window.scored < len(window.tokens) <= 64 for window in windows)


def test_pp_07_corpus_and_mean_of_texts_differ():
    result = perplexity.summarise(np.array([9.0, 4.0]), np.array([9, 1]), np.array([1, 1]), [1, 2])
    assert result["corpus"] == pytest.approx(3.6693, abs=5e-5)
    assert result["mean"] == pytest.approx(28.658, abs=5e-4)
    assert result["mean_paper_scale"] == pytest.approx(0.28658, abs=5e-6)


def test_pp_08_empty_and_one_token_texts(lm_folder):
    result = perplexity.score(["", "D", "a dog"], lm_folder, start="none", image_ids=[7, 8, 9])
    assert result["n_excluded"] == 2
    assert result["dropped"]["nothing to count"]["which"] == ["7", "8"]
    assert perplexity.score(["", "D"], lm_folder)["n_excluded"] == 1
    json.dumps(result, allow_nan=False)
    with pytest.raises(UserError, match="nothing left to score"):
        perplexity.score([""], lm_folder)


def test_the_lineages_rule_counts_prompt_and_end(lm_folder):
    result = perplexity.score(["a dog"], lm_folder, rule="efuf", prompt="Describe.")
    ids = [END, *byte_ids(lm_folder, "Describe. a dog"), END]
    assert result["per_image"]["nll"][0] == pytest.approx(reference_nll(lm_folder, ids), rel=1e-4)
    assert result["settings"] == {"perplexity_prompt": "Describe."}
    assert "EFUF" in result["rule"]


def test_special_tokens_in_captions_are_text(lm_folder):
    result = perplexity.score(["a <|endoftext|> b"], lm_folder)
    assert result["per_image"]["tokens"] == [len("a <|endoftext|> b")]


def test_missing_models_and_broken_weights_are_named(tmp_path, lm_folder):
    with pytest.raises(
        UserError, match=r"no config\.json, no tokenizer\.json, no \*\.safetensors.*hf download"
    ):
        perplexity.score(["a dog"], tmp_path)
    with pytest.raises(UserError, match=str(tmp_path / "absent")):
        perplexity.score(["a dog"], tmp_path / "absent")
    with pytest.raises(UserError, match="not finite"):
        perplexity.summarise(np.array([np.nan]), np.array([3]), np.array([1]), [1])


def test_command_line(lm_folder, tmp_path, capsys):
    path = tmp_path / "captions.jsonl"
    rows = [
        {"image_id": 1, "caption": "a dog"},
        {"image_id": 2, "caption": None},
        {"image_id": 3, "caption": ""},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    perplexity.main(["--captions", str(path), "--model", str(lm_folder), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["n"], result["skipped"], result["n_excluded"]) == (1, 2, 1)
    assert len(result["model"]["sha256"]) == 16
    perplexity.main(["--captions", str(path), "--model", str(lm_folder)])
    shown = capsys.readouterr().out
    assert "mean_paper_scale" in shown
    assert "caption is no text: 1 (2)" in shown
