"""Answers of a folder whose generation_config.json says something, beside transformers' of that folder."""

import json
import shutil

import jax.numpy as jnp
import pytest

from sare_jax.errors import UserError
from sare_jax.inference.ask import ask
from sare_jax.models.llava.export.folder import export_folder
from sare_jax.models.llava.export.in_transformers import answers
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.load import load_model
from sare_jax.settings import GREEDY, DecodingConfig
from tests.tiny_llava import EOS, TEXT, image_token_id, llama_tokenizer, pictures, write_llava

NEW = 24
REQUESTS = [{"image": f"{number}.png", "instruction": "Describe the image."} for number in range(4)]


class Case:
    """A tiny LLaVA and its pictures; `say` gives a copy that says something on generation."""

    def __init__(self, root):
        self.root = root
        write_llava(root / "base", seed=1)
        for request, picture in zip(REQUESTS, pictures(len(REQUESTS)), strict=True):
            picture.save(root / request["image"])
        self.copies = 0

    def say(self, said, name="generation_config.json"):
        self.copies += 1
        folder = self.root / f"copy_{self.copies}"
        shutil.copytree(self.root / "base", folder)
        (folder / "generation_config.json").unlink()
        before = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
        # Here these are never generated, and of random weights transformers would.
        never = [image_token_id(), *range(llama_tokenizer().get_vocab_size(), TEXT["vocab_size"])]
        said = said | {"suppress_tokens": never + said.get("suppress_tokens", [])}
        (folder / name).write_text(json.dumps(before | said))
        return folder

    def parts(self, folder):
        loaded = load_model(folder, dtype=jnp.float32)
        prompter = LlavaPrompter.from_source(loaded.source, "hub")
        return loaded, prompter, LlavaImageProcessor.from_source(loaded.source)

    def ours(self, folder, decoding=GREEDY):
        loaded, prompter, processor = self.parts(folder)
        return ask(
            loaded,
            loaded.params,
            REQUESTS,
            images_dir=self.root,
            out=self.root / "answers.jsonl",
            processor=processor,
            prompter=prompter,
            max_new_tokens=NEW,
            batch_size=4,
            name="answers",
            decoding=decoding,
        )

    def theirs(self, folder, decoding=GREEDY):
        """Of the exported folder, whose tuned weights are those of the base."""
        loaded, prompter, processor = self.parts(folder)
        out = self.root / "export"
        export_folder(loaded.source, loaded.params, out)
        name = "generation_config.json"
        if (folder / name).is_file():
            assert (out / name).read_bytes() == (folder / name).read_bytes()
        asked = {"images_dir": self.root, "prompter": prompter, "processor": processor}
        texts = answers(out, REQUESTS, max_new_tokens=NEW, decoding=decoding, **asked)
        return [text.strip() for text in texts]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("case"))


def tokens_of(records):
    """Of each answer, tokens that make its text."""
    return [llama_tokenizer().encode(text, add_special_tokens=False).ids for text in texts(records)]


def texts(records):
    return [record["text"] for record in records]


BEAMS = DecodingConfig(num_beams=3)


@pytest.mark.parametrize("decoding", [GREEDY, BEAMS], ids=["greedy", "beams"])
@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_a_list_of_end_tokens_ends_answers(case, decoding, file):
    free = case.ours(case.say({"eos_token_id": EOS}), decoding)
    folder = case.say({"eos_token_id": [EOS, *tokens_of(free)[0][4:8]]}, file)
    ended = case.ours(folder, decoding)
    assert texts(ended) == case.theirs(folder, decoding)
    assert texts(ended) != texts(free)
    assert any(
        record["finish_reason"] == "stop" and record["tokens"] < before["tokens"]
        for record, before in zip(ended, free, strict=True)
    )


@pytest.mark.parametrize("decoding", [GREEDY, BEAMS], ids=["greedy", "beams"])
@pytest.mark.parametrize("key", ["suppress_tokens", "begin_suppress_tokens"])
def test_suppressed_tokens_are_not_generated(case, decoding, key):
    free = case.ours(case.say({"eos_token_id": EOS}), decoding)
    barred = sorted({ids[place] for ids in tokens_of(free) for place in (0, 1, 2)})
    folder = case.say({"eos_token_id": EOS, key: barred})
    ours = case.ours(folder, decoding)
    assert texts(ours) == case.theirs(folder, decoding)
    assert texts(ours) != texts(free)


def test_what_our_settings_decide_is_theirs_too(case):
    """The exported folder says it still; asked with our settings it answers alike."""
    said = {"do_sample": True, "temperature": 5.0, "max_length": 7, "num_beams": 4, "stop_strings": ["a"]}
    free = case.ours(case.say({"eos_token_id": EOS}))
    folder = case.say({"eos_token_id": EOS, **said})
    assert texts(case.ours(folder)) == texts(free) == case.theirs(folder)


def test_a_changed_file_redoes_the_answers(case):
    folder = case.say({"eos_token_id": EOS})
    before = case.ours(folder)
    key = (case.root / ".answers.jsonl.key").read_text()
    assert case.ours(folder) == before
    assert (case.root / ".answers.jsonl.key").read_text() == key
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [EOS, tokens_of(before)[0][6]]})
    )
    assert case.ours(folder) != before
    assert (case.root / ".answers.jsonl.key").read_text() != key


def test_end_tokens_without_the_tokenizers_are_refused(case):
    with pytest.raises(UserError, match=r"generation_config\.json: eos_token_id \[7\] lacks 2"):
        case.ours(case.say({"eos_token_id": 7}))
