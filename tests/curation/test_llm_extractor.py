import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sare_jax.curation import llm_extractor as module
from sare_jax.curation.captions import Caption
from sare_jax.curation.extraction import extract
from sare_jax.curation.llm_extractor import endpoint_extractor, llm_extractor, local_extractor, question
from sare_jax.errors import UserError
from sare_jax.llm.client import Endpoint
from tests.curation.tiny_clip import make_tokenizer
from tests.evaluation.judging.judge_server import JudgeServer, breaks_off, drips, says, sends

CAPTIONS = ("Two Dogs run.", "A cat sits on a mat.", "A bird sings. The bird flies.")


def extractor(server, folder, **options):
    options = {"timeout": 2.0, "first_wait": 0.01, "waits": 1, "tries": 2} | options
    return endpoint_extractor(Endpoint(server.base_url, "m", **options), folder, parallel=1)


def texts(found):
    return [[m.text for m in f.mentions] for f in found]


def test_an_endpoint_finds_objects_and_is_asked_once(tmp_path):
    with JudgeServer(says("Things: dog, frisbee"), says("cat, mat"), says("bird")) as server:
        asks = extractor(server, tmp_path)
        found = list(asks.find(CAPTIONS))
        assert texts(found) == [["dogs"], ["cat", "mat"], ["bird", "bird"]]
        assert found[0].left_out == {"not_in_caption": 1}
        assert texts(asks.find(CAPTIONS)) == texts(found)
        assert len(server.asked) == 3
        prompt = server.asked[1]["messages"][0]["content"]
        assert prompt == question(CAPTIONS[1])
        assert server.asked[1]["temperature"] == 0
    assert prompt.endswith("Text: A cat sits on a mat.\nThings:")
    assert asks.name.startswith(f"m at {server.base_url}, instruction ")


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (says("I'm sorry, I can't"), "refused"),
        (sends(200, "<html><body>Bad gateway</body></html>"), "reply is no JSON"),
        (says("dog, c", finish_reason="length"), "cut off"),
        (breaks_off, "connection failed (RemoteProtocolError)"),
        (drips, "no reply in time"),
        (says(""), "empty reply"),
    ],
    ids=["refusal", "html", "cut off", "half-way", "hangs", "empty"],
)
def test_cur_05_what_fails_is_counted_and_asked_again_by_the_next_run(tmp_path, act, reason):
    captions = [Caption(i, f"{i}.png", text) for i, text in enumerate(CAPTIONS)]
    with JudgeServer(act, act, otherwise=says("dog, cat, mat, bird")) as server:
        asks = extractor(server, tmp_path / "cache", timeout=0.3)
        first = extract(captions, asks, tmp_path / "objects")
        assert [s.dropped for s in first] == [f"extraction: {reason}", "", ""]
        again = extract(captions, asks, tmp_path / "objects")
        assert [s.dropped for s in again] == ["", "", ""]
        assert [[u.object for u in s.units] for s in again] == [["dogs"], ["cat", "mat"], ["bird"]]
        asked = len(server.asked)
        assert [s.units for s in extract(captions, asks, tmp_path / "objects")] == [s.units for s in again]
        assert len(server.asked) == asked


def test_an_endpoint_that_is_not_there_is_one_line(tmp_path):
    asks = endpoint_extractor(
        Endpoint("http://127.0.0.1:9", "m", first_wait=0.001, waits=9, longest_wait=0.01), tmp_path
    )
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9: cannot be reached"):
        list(asks.find(["A dog."]))


def test_captions_that_cannot_be_curated_are_not_sent(tmp_path):
    spoken = (" ", "A cat sits.", "Ein Hund läuft")
    captions = [Caption(i, f"{i}.png", text) for i, text in enumerate(spoken)]
    with JudgeServer(otherwise=says("cat")) as server:
        found = extract(captions, extractor(server, tmp_path / "cache"), tmp_path / "objects")
        assert [s.dropped for s in found] == ["empty caption", "", "not English"]
        assert len(server.asked) == 1


def test_a_phrase_of_more_than_ten_words_is_left_out(tmp_path):
    phrase = "very old rusty red fire truck with a long white ladder"
    captions = [Caption(0, "0.png", f"A {phrase}. A dog.")]
    with JudgeServer(otherwise=says(f"{phrase}, dog")) as server:
        found = extract(captions, extractor(server, tmp_path / "cache"), tmp_path / "objects")
    assert [u.object for u in found[0].units] == ["dog"]
    assert found[0].left_out == {"phrase_too_long": 1}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("no/such/folder", "is no folder, no address and none of deepseek, openai"),
        ("http://127.0.0.1:1/v1", "llm_model .*: empty; name the model"),
        ("openai", "OPENAI_API_KEY is not set"),
    ],
)
def test_settings_that_cannot_be(monkeypatch, where, message):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match=message):
        llm_extractor(where)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A causal language model of a few thousand weights; it knows the words and no language."""
    folder = tmp_path_factory.mktemp("lm")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.5,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=len(tokenizer) - 1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_local_model_is_decoded_as_transformers_does(language_model, monkeypatch):
    monkeypatch.setattr(module, "MOST_TOKENS", 12)
    replies = []
    monkeypatch.setattr(module, "names_in", lambda reply: replies.append(reply) or ["dog"])
    captions = ["A dog.", "A very long old red dog near a tree and a car.", "A cat."]
    found = list(local_extractor(language_model).find(captions))
    assert texts(found) == [["dog"], ["dog"], []]

    tokenizer = AutoTokenizer.from_pretrained(language_model)
    model = AutoModelForCausalLM.from_pretrained(language_model).eval()
    for caption, reply in zip(captions, replies, strict=True):  # one by one, without padding
        prompt = tokenizer.bos_token + question(caption) if tokenizer.bos_token else question(caption)
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
        out = model.generate(ids, do_sample=False, max_new_tokens=12)
        assert reply == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert len(set(replies)) > 1


def test_a_caption_that_a_local_model_has_no_room_for_fails_alone(language_model, monkeypatch):
    prompt = len(AutoTokenizer.from_pretrained(language_model)(question("")).input_ids)
    monkeypatch.setattr(module, "MOST_TOKENS", 2048 - prompt - 10)
    monkeypatch.setattr(module, "names_in", lambda reply: ["dog"])
    monkeypatch.setattr(LlamaForCausalLM, "generate", lambda self, input_ids, **_: input_ids)
    found = list(local_extractor(language_model).find(["A dog.", "A dog. " * 50, "The dog."]))
    assert [f.failed for f in found] == ["", "longer than the model's context", ""]
    found = list(local_extractor(language_model).find(["A dog. " * 50]))
    assert [f.failed for f in found] == ["longer than the model's context"]


def test_a_local_model_by_its_chat_template(language_model):
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<answer>{% endif %}"
    )
    assert module._as_chat(tokenizer, "a dog") == "<user>a dog<answer>"


def test_a_folder_without_a_language_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    with pytest.raises(UserError, match=f"{tmp_path.name}: no causal language model"):
        llm_extractor(str(tmp_path))
