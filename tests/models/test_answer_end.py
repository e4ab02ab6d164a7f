"""In every family whole captions are trained to end with what generation stops at."""

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.data.batches import TokenSets, tokenize
from sare_jax.data.preferred import with_preferred
from sare_jax.inference.ask import ask
from sare_jax.inference.stopping import Ending, stop_table
from sare_jax.models.families import model_folder, open_source
from sare_jax.models.interface import Prompter, Source
from sare_jax.models.load import load_model
from sare_jax.models.prompting import ImagePrompter
from sare_jax.models.shared.generation import read_generation
from sare_jax.records.curated import Curated, Rows, Sentences, Units
from sare_jax.settings import ModelConfig
from tests.models.minigpt4.tiny import write_minigpt4
from tests.tiny_llava import pictures, write_llava
from tests.tiny_original import write_original
from tests.tiny_owl import write_owl

ASK = "Please describe the image."
CAPTION = "There is a dog on the bench. A man sits beside him, and a cat."
LONG = "There is a dog on the bench. " * 40
# What the published models are trained to end captions with (docs/protocols.md 7), and their longest target.
ENDS = {
    "llava": ("</s>", None),
    "llava_original": ("</s>", None),
    "mplug_owl": ("</s>", None),
    "minigpt4_llama2": ("</s>", 160),
    "minigpt4_vicuna": ("###", 160),
}


class Family(NamedTuple):
    """A tiny model's parts that have to do with text, and curated captions as its training sees them."""

    name: str
    source: Source
    prompter: Prompter
    sets: TokenSets
    curated: Curated
    about: ImagePrompter


def write(name: str, folder: Path) -> ModelConfig:
    if name.startswith("minigpt4"):
        return write_minigpt4(folder, name.removeprefix("minigpt4_")).settings
    if name == "llava_original":
        write_original(folder / "model", folder / "tower")
    else:
        {"llava": write_llava, "mplug_owl": write_owl}[name](folder / "model")
    return ModelConfig(folder=str(folder / "model"), dtype="float32")


@pytest.fixture(scope="module", params=ENDS)
def family(request, tmp_path_factory) -> Family:
    root = tmp_path_factory.mktemp(request.param)
    settings = write(request.param, root)
    source = open_source(model_folder(settings), settings)
    prompter = source.family.prompter(source, settings)
    for number, picture in enumerate(pictures(2)):
        picture.save(root / f"{number}.png")
    about = ImagePrompter(prompter, source.family.image_processor(source, settings), root)
    start = CAPTION.index(" and a cat")
    last = Units(*map(np.array, ([0], [start], [len(CAPTION)], ["cat"], [start], [len(CAPTION)], [1.0])))
    none = Units(*[np.array([])] * 7)
    sent = Sentences(np.arange(2), np.ones(2), np.ones(2))
    rows = Rows(np.array(["0.png", "1.png"]), np.arange(2), np.array([CAPTION, LONG]))
    curated = Curated(rows, last, none, sent, {})
    return Family(request.param, source, prompter, tokenize(curated, about, ASK), curated, about)


def targets(units) -> list[list[int]]:
    return [tokens[start:].tolist() for tokens, start in zip(units.tokens, units.start, strict=True)]


def test_whole_captions_end_as_published_and_parts_of_them_do_not(family):
    end, longest = ENDS[family.name]
    whole, long = targets(family.sets.sent)
    ids = list(family.prompter.answer_end.ids)
    assert whole[-len(ids) :] == ids
    assert family.prompter.decode(whole).strip() == CAPTION + end.replace("</s>", "")
    assert (family.prompter.eos_id in ids) == (end == "</s>")
    (part,) = targets(family.sets.neg)
    assert part == whole[-len(ids) - len(part) : -len(ids)]
    free, _ = family.prompter.answer(ASK, LONG, [], eos=True, num_image_tokens=0)
    free = free[len(family.prompter.prompt(ASK, 0)) :]
    assert longest is None or len(free) > longest
    assert long == free[:longest]


def test_generation_stops_at_the_last_token_of_a_caption_and_at_no_other(family):
    vocabulary = family.source.config.text.vocab_size
    stop = family.prompter.answer_end.stop
    table = stop_table(family.prompter.tokenizer, stop, vocabulary) if stop else None
    ending = Ending(read_generation(family.source.folder).end_ids(family.prompter.eos_id), table)
    state, ended = 0, []
    for token in targets(family.sets.sent)[0]:
        met, state = ending(np.int32(token), state)
        ended.append(bool(met))
    assert ended == [*[False] * (len(ended) - 1), True]


def test_where_nothing_follows_a_negative_the_end_is_preferred(family):
    neg = with_preferred(family.sets.neg, family.curated, family.about, ASK)
    assert targets(neg.preferred) == [list(family.prompter.answer_end.ids)]


@pytest.mark.parametrize("family", ["minigpt4_vicuna"], indirect=True)
def test_the_familys_strings_end_answers_without_a_word_in_the_settings(family, tmp_path):
    """Yes/no questions too, which are asked greedily whatever `decoding` says."""
    loaded = load_model(family.source, dtype=jnp.float32, max_trainable=0.9)

    def answer(prompter: Prompter, file: str) -> dict:
        (record,) = ask(
            loaded,
            loaded.params,
            [{"image": "0.png", "instruction": ASK}],
            images_dir=family.about.images_dir,
            out=tmp_path / file,
            processor=family.about.processor,
            prompter=prompter,
            max_new_tokens=12,
            batch_size=1,
            name="test",
        )
        return record

    free = answer(family.prompter, "free.jsonl")
    found = re.search(r"[a-z]{2}", free["text"])
    assert found
    stop = found.group()
    end = dataclasses.replace(family.prompter.answer_end, stop=(stop,))
    stopped = answer(dataclasses.replace(family.prompter, answer_end=end), "stopped.jsonl")
    assert stopped["text"] == free["text"][: found.start()].strip()
    assert stopped["finish_reason"] == "stop"
    assert stopped["tokens"] < free["tokens"]
