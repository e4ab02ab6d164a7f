import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.evaluation.metrics import pope
from sare_jax.inference import ask as ask_module
from sare_jax.inference.ask import ask
from sare_jax.inference.features import FeatureCache, encode_images
from sare_jax.inference.generate import Generated
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.load import load_model
from sare_jax.models.shared.partition import hash_params
from sare_jax.plan.sizer import DeviceSizer
from sare_jax.settings import DecodingConfig
from sare_jax.training.sharding import by_rows, make_mesh, replicated
from tests.tiny_llava import llama_tokenizer, pictures, write_llava

NAMES = [f"{number}.png" for number in range(5)]
QUESTIONS = ["Please describe the image.", "Is there a cat in the image?"]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A model, its processor and prompts, and a folder of five images."""
    folder = tmp_path_factory.mktemp("model")
    images = tmp_path_factory.mktemp("images")
    write_llava(folder, seed=1)
    for name, picture in zip(NAMES, pictures(len(NAMES)), strict=True):
        picture.save(images / name)
    loaded = load_model(folder, dtype=jnp.float32)
    processor = LlavaImageProcessor.from_source(loaded.source)
    return {
        "loaded": loaded,
        "params": loaded.params,
        "images_dir": images,
        "processor": processor,
        "prompter": LlavaPrompter.from_source(loaded.source, "hub"),
        "max_new_tokens": 16,
        "batch_size": 4,
        "name": "answers",
        "features": FeatureCache(loaded, processor, images),
    }


@pytest.fixture
def requests():
    """Five images with one question each, of two prompt lengths; more than a batch, less than two."""
    return [
        {"id": f"q{number}", "image_id": number, "image": name, "instruction": QUESTIONS[number % 2]}
        for number, name in enumerate(NAMES)
    ]


def test_the_rows_of_a_batch_may_be_left_to_what_fits(setting, requests, tmp_path):
    """The program that is asked about is the one that runs, with the longest prompt."""
    record = tmp_path / "batch_sizes.json"
    chooser = DeviceSizer(make_mesh(1), "caption.batch_size", 2, {}, record)
    answers = ask(requests=requests, out=tmp_path / "auto.jsonl", **setting | {"batch_size": chooser})
    assert answers == ask(requests=requests, out=tmp_path / "two.jsonl", **setting | {"batch_size": 2})
    [entry] = files.read_json(record)
    asked = entry["asked"]
    prompter = setting["prompter"]
    slots = setting["loaded"].shape.num_image_tokens
    longest = max(len(prompter.prompt(request["instruction"], slots)) for request in requests)
    assert entry["chosen"] == 2
    assert 0 <= asked["prompt"] - longest < 16
    assert (asked["max_new_tokens"], asked["most"]) == (16, 5)


class BrokenError(Exception):
    pass


@pytest.fixture
def breaking(monkeypatch):
    """Makes the `at`-th call of `generate` fail."""

    def arrange(at: int) -> list[int]:
        calls = []

        def generate(*args, **kwargs):
            calls.append(len(calls))
            if len(calls) == at:
                raise BrokenError
            return real(*args, **kwargs)

        monkeypatch.setattr(ask_module, "generate", generate)
        return calls

    real = ask_module.generate
    return arrange


def test_im_09_last_partial_batch_gives_every_request_once_in_order(setting, requests, tmp_path):
    records = ask(requests=requests, out=tmp_path / "out.jsonl", **setting)
    assert [record["id"] for record in records] == [f"q{number}" for number in range(5)]
    assert files.read_jsonl(tmp_path / "out.jsonl") == records
    alone = [
        ask(requests=[request], out=tmp_path / f"{request['id']}.jsonl", **setting | {"batch_size": 1})[0]
        for request in requests
    ]
    assert alone == records


def test_ge_01_text_is_the_answer_alone(setting, requests, tmp_path):
    for record in ask(requests=requests, out=tmp_path / "out.jsonl", **setting):
        assert record["text"] == record["text"].strip()
        assert record["text"]
        assert "USER" not in record["text"]
        assert record["instruction"] not in record["text"]
        assert "<" not in record["text"].replace("<0x", "")  # no special token is spelled out


@pytest.fixture
def saying(monkeypatch, setting):
    """Makes every answer a given text, ended by the end token or by the limit."""

    def arrange(text: str, *, ended: bool) -> None:
        prompter = setting["prompter"]
        ids = prompter.tokenizer.encode(text, add_special_tokens=False).ids + [prompter.eos_id] * ended

        def generate(*args, **_):
            rows = len(args[3])
            return Generated(np.tile(ids, (rows, 1)), np.full(rows, len(ids)), np.full(rows, ended))

        monkeypatch.setattr(ask_module, "generate", generate)

    return arrange


def test_ge_03_a_blank_first_token_does_not_empty_the_answer(setting, requests, saying, tmp_path):
    saying("  yes", ended=True)
    records = ask(requests=requests, out=tmp_path / "a.jsonl", **setting | {"max_new_tokens": 8})
    assert {record["text"] for record in records} == {"yes"}
    assert pope.METRIC.questions.max_new_tokens >= 8
    with pytest.warns(UserWarning, match="max_new_tokens is 1"):
        ask(requests=requests, out=tmp_path / "b.jsonl", **setting | {"max_new_tokens": 1})


def test_ge_04_marks_of_other_models_stay_in_the_text_unless_named(setting, requests, saying, tmp_path):
    saying("A dog ### USER: a cat", ended=False)
    whole = ask(requests=requests, out=tmp_path / "a.jsonl", **setting)
    assert {record["text"] for record in whole} == {"A dog ### USER: a cat"}
    assert {record["finish_reason"] for record in whole} == {"length"}
    cutting = DecodingConfig(stop=("###",))
    short = ask(requests=requests, out=tmp_path / "b.jsonl", **setting | {"decoding": cutting})
    assert {record["text"] for record in short} == {"A dog"}


def test_stop_strings_end_answers_and_the_search_for_them(setting, requests, tmp_path):
    free = ask(requests=requests, out=tmp_path / "a.jsonl", **setting)
    # Letters somewhere inside two of the answers.
    stop = tuple(re.search(r"(?<=.{3})[a-z]{2}", record["text"], re.DOTALL)[0] for record in free[:2])
    stopped = ask(
        requests=requests, out=tmp_path / "b.jsonl", **setting | {"decoding": DecodingConfig(stop=stop)}
    )
    for before, after in zip(free, stopped, strict=True):
        places = [before["text"].find(string) for string in stop if string in before["text"]]
        assert after["text"] == (before["text"][: min(places)].strip() if places else before["text"])
        if places:
            assert after["finish_reason"] == "stop"
            assert after["tokens"] <= before["tokens"]
    assert sum(a != b for a, b in zip(stopped, free, strict=True)) >= 2


def test_ge_07_settings_of_draws_without_a_temperature_are_warned_about(setting, requests, tmp_path):
    greedy = ask(requests=requests, out=tmp_path / "a.jsonl", **setting)
    with pytest.warns(UserWarning, match=r"decoding\.temperature is 0"):
        idle = ask(
            requests=requests, out=tmp_path / "b.jsonl", **setting | {"decoding": DecodingConfig(top_p=0.9)}
        )
    assert idle == greedy


def test_draws_follow_seed_and_request_whatever_the_batch(setting, requests, tmp_path):
    drawing = setting | {"decoding": DecodingConfig(temperature=2.0, seed=1)}
    drawn = ask(requests=requests, out=tmp_path / "a.jsonl", **drawing)
    alone = ask(requests=requests, out=tmp_path / "b.jsonl", **drawing | {"batch_size": 2})
    assert alone == drawn
    other = setting | {"decoding": DecodingConfig(temperature=2.0, seed=2)}
    assert ask(requests=requests, out=tmp_path / "a.jsonl", **other) != drawn  # and the journal knows


def test_tk_12_only_tokens_of_the_tokenizer_are_asked_for(setting, requests, monkeypatch, tmp_path):
    seen = []

    def generate(*args, allowed, **settings):
        seen.append(np.asarray(allowed))
        return real(*args, allowed=allowed, **settings)

    real = ask_module.generate
    monkeypatch.setattr(ask_module, "generate", generate)
    ask(requests=requests, out=tmp_path / "out.jsonl", **setting)
    prompter, vocabulary = setting["prompter"], setting["loaded"].config.text.vocab_size
    expected = set(llama_tokenizer().get_vocab().values()) - {prompter.image_token_id}
    assert max(expected) + 1 < vocabulary
    assert set(np.flatnonzero(seen[0])) == expected


def spread(setting: dict, devices: int) -> dict:
    """The same model, whole on each of several devices, with the rows of a batch divided over them."""
    mesh = make_mesh(devices)
    folder = setting["loaded"].folder
    loaded = load_model(folder, dtype=jnp.float32, placement=lambda *_: replicated(mesh))
    return setting | {"loaded": loaded, "params": loaded.params, "features": None, "rows": by_rows(mesh)}


def test_sh_02_every_request_once_and_the_same_on_any_number_of_devices(setting, tmp_path):
    requests = [
        {"id": number, "image": NAMES[number % 5], "instruction": QUESTIONS[number % 2]}
        for number in range(21)
    ]
    setting = setting | {"batch_size": 6, "max_new_tokens": 12}
    expected = ask(requests=requests, out=tmp_path / "1.jsonl", **setting)
    assert [record["id"] for record in expected] == list(range(21))
    for devices in (2, 4, 8):
        out = tmp_path / f"{devices}.jsonl"
        assert ask(requests=requests, out=out, **spread(setting, devices)) == expected
        assert out.read_bytes() == (tmp_path / "1.jsonl").read_bytes()


@pytest.mark.parametrize(
    "decoding", [DecodingConfig(num_beams=3), DecodingConfig(temperature=1.5, top_p=0.9)]
)
def test_beams_and_draws_are_the_same_on_eight_devices(setting, requests, decoding, tmp_path):
    setting = setting | {"batch_size": 5, "max_new_tokens": 12, "decoding": decoding}
    one = ask(requests=requests, out=tmp_path / "1.jsonl", **setting)
    assert ask(requests=requests, out=tmp_path / "8.jsonl", **spread(setting, 8)) == one


def test_ge_06_finish_reason_says_when_the_limit_cut(setting, requests, tmp_path):
    whole = ask(requests=requests, out=tmp_path / "a.jsonl", **setting | {"max_new_tokens": 200})
    short = ask(requests=requests, out=tmp_path / "b.jsonl", **setting | {"max_new_tokens": 2})
    assert {record["finish_reason"] for record in short} == {"length"}
    assert {record["tokens"] for record in short} == {2}
    for record in whole:
        assert (record["tokens"] == 200) == (record["finish_reason"] == "length")


def test_ge_08_a_failure_is_raised_and_keeps_what_was_finished(setting, requests, breaking, tmp_path):
    breaking(at=2)
    out = tmp_path / "out.jsonl"
    with pytest.raises(BrokenError):
        ask(requests=requests, out=out, **setting | {"batch_size": 1})
    assert not out.exists()
    breaking(at=-1)
    assert len(ask(requests=requests, out=out, **setting | {"batch_size": 1})) == 5


def test_resume_repeats_no_finished_batch_and_changes_no_answer(setting, requests, breaking, tmp_path):
    expected = ask(requests=requests, out=tmp_path / "whole.jsonl", **setting | {"batch_size": 1})
    breaking(at=4)
    out = tmp_path / "out.jsonl"
    with pytest.raises(BrokenError):
        ask(requests=requests, out=out, **setting | {"batch_size": 1})
    partial = tmp_path / "out.jsonl.partial"
    finished = len(partial.read_text().splitlines()) - 1
    assert finished == 2  # the third was queued when the fourth failed
    with partial.open("a") as stream:
        stream.write('{"index": 2, "answ')  # as a kill in the middle of a write leaves it
    calls = breaking(at=-1)
    assert ask(requests=requests, out=out, **setting | {"batch_size": 1}) == expected
    assert len(calls) == 5 - finished
    assert not partial.exists()


@pytest.mark.parametrize("change", ["weights", "question", "limit"])
def test_partial_file_of_another_call_is_not_used(setting, requests, breaking, tmp_path, change):
    breaking(at=3)
    out = tmp_path / "out.jsonl"
    with pytest.raises(BrokenError):
        ask(requests=requests, out=out, **setting | {"batch_size": 1})
    changed = {"batch_size": 1}
    if change == "weights":
        changed["params"] = jax.tree.map(lambda leaf: leaf * 1.5, setting["params"])
    elif change == "question":
        requests[4] = requests[4] | {"instruction": "What is this?"}
    else:
        changed["max_new_tokens"] = 3
    calls = breaking(at=-1)
    ask(requests=requests, out=out, **setting | changed)
    assert len(calls) == 5


def test_whole_output_is_read_back_only_when_nothing_changed(setting, requests, breaking, tmp_path):
    out = tmp_path / "out.jsonl"
    records = ask(requests=requests, out=out, **setting)
    calls = breaking(at=-1)
    assert ask(requests=requests, out=out, **setting) == records
    assert not calls
    out.write_text(out.read_text().replace('"q0"', '"q9"'))
    assert ask(requests=requests, out=out, **setting) == records
    assert calls


def test_im_10_missing_images_are_all_named_before_any_work(setting, breaking, tmp_path):
    calls = breaking(at=-1)
    names = [*NAMES, "a.png", *NAMES[:3], "b.png"]
    requests = [{"image": name, "instruction": QUESTIONS[0]} for name in names]
    with pytest.raises(UserError) as error:
        ask(requests=requests, out=tmp_path / "out.jsonl", **setting)
    assert "2 of 7 images cannot be used: " in str(error.value)
    assert "a.png" in str(error.value)
    assert "b.png" in str(error.value)
    assert not calls


def test_unreadable_image_is_an_error_that_names_it(setting, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    cache = FeatureCache(setting["loaded"], setting["processor"], tmp_path)
    changed = setting | {"features": cache, "images_dir": tmp_path}
    with pytest.raises(UserError, match=r"1 of 1 images cannot be used: .*bad\.png: unidentified"):
        ask(requests=[{"image": "bad.png", "instruction": "What?"}], out=tmp_path / "out.jsonl", **changed)
    assert not (tmp_path / "out.jsonl").exists()


def test_request_without_its_keys_is_named(setting, tmp_path):
    with pytest.raises(UserError, match="request 1 has no 'instruction'"):
        ask(
            requests=[{"image": "0.png", "instruction": "What?"}, {"image": "0.png"}],
            out=tmp_path / "out.jsonl",
            **setting,
        )


def test_no_requests_give_an_empty_file(setting, tmp_path):
    assert ask(requests=[], out=tmp_path / "out.jsonl", **setting) == []
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_hash_of_parameters_sees_one_element():
    params = {"a": {"b": np.zeros((2, 3), np.float32)}}
    other = {"a": {"b": np.zeros((2, 3), np.float32)}}
    assert hash_params(params) == hash_params(other)
    other["a"]["b"][1, 2] = 1e-30
    assert hash_params(params) != hash_params(other)


class TestFeatureCache:
    def test_features_are_the_models_whatever_the_batch(self, setting):
        loaded, processor, images = (setting[key] for key in ("loaded", "processor", "images_dir"))
        pixels = np.stack(processor.load(images, NAMES))
        expected = np.asarray(encode_images(loaded.graphdef, loaded.params, loaded.frozen, pixels))
        cache = FeatureCache(loaded, processor, images, batch_size=3)
        np.testing.assert_allclose(cache(NAMES), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(cache(["3.png", "0.png", "3.png"])[[0, 1]], cache(NAMES)[[3, 0]])

    def test_each_image_is_encoded_once_and_memory_is_bounded(self, setting, monkeypatch):
        loaded, images = setting["loaded"], setting["images_dir"]
        opened = []
        load = LlavaImageProcessor.load

        def watched(self, folder, names):
            opened.extend(names)
            return load(self, folder, names)

        monkeypatch.setattr(LlavaImageProcessor, "load", watched)
        one = setting["features"](["0.png"]).nbytes
        cache = FeatureCache(loaded, setting["processor"], images, max_bytes=2 * one)
        cache(["0.png", "1.png", "0.png"])
        cache(["1.png", "0.png"])
        assert opened == ["0.png", "1.png"]
        cache(["2.png"])  # puts out 1.png, used longest ago
        cache(["0.png"])
        assert opened == ["0.png", "1.png", "2.png"]
        cache(["1.png"])
        assert opened[3:] == ["1.png"]

    def test_trained_vision_tower_is_refused(self, setting, tmp_path):
        folder = setting["loaded"].folder
        loaded = load_model(folder, dtype=jnp.float32, trainable="vision_tower/.*", max_trainable=0.9)
        with pytest.raises(UserError, match="vision_tower"):
            FeatureCache(loaded, setting["processor"], setting["images_dir"])


def test_partial_file_is_made_of_json_lines(setting, requests, breaking, tmp_path):
    breaking(at=3)
    with pytest.raises(BrokenError):
        ask(requests=requests, out=tmp_path / "out.jsonl", **setting | {"batch_size": 1})
    header, *lines = (tmp_path / "out.jsonl.partial").read_text().splitlines()
    assert json.loads(header)["value"].keys() == {"key"}
    records = [json.loads(line)["value"] for line in lines]
    assert all(record["answer"].keys() == {"text", "finish_reason", "tokens"} for record in records)
