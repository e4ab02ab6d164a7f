"""Prompts and answers as tokens, with a tokenizer of LLaMA's kind and one of GPT-2's."""

import itertools
import json
import random
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from sare_jax.errors import UserError
from sare_jax.files import read_json
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.shared.pieces import token_border
from tests import tiny_llava
from tests.tiny_llava import BOS, EOS, IMAGE_TOKEN
from tests.tiny_sentencepiece import write_sentencepiece

SLOTS = 16  # of an image of 28 pixels in patches of 7
ASK = "Please describe the image in great detail."
TEXT = "A photo of a dog on a bench. There is a café 🐶 〜 with “quoted” chairs, and two cats."
KINDS = {
    "llama": tiny_llava.llama_tokenizer,
    "rebuilt": tiny_llava.rebuilt_llama_tokenizer,
    "byte_level": tiny_llava.byte_level_tokenizer,
}


def read(folder, template="hub", form="hub"):
    """The tokenizer of a folder that has no weights."""
    config = LlavaConfig.from_hf(read_json(folder / "config.json"))
    return LlavaPrompter.from_source(LlavaSource(folder, form, config, {}), template)


def write_folder(path, tokenizer, image_token):
    """Config, processor, tokenizer."""
    config = tiny_llava.torch_llava().config
    config.image_token_index = image_token
    config.save_pretrained(path)
    tiny_llava.write_processor(path, config)
    if tokenizer:
        tiny_llava.write_tokenizer(path, tokenizer)


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    tokenizer = KINDS[request.param]()
    write_folder(path, tokenizer, tokenizer.token_to_id(IMAGE_TOKEN))
    return path


@pytest.fixture(scope="module", params=[*KINDS, "sentencepiece"])
def prompter(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    if request.param == "sentencepiece":
        write_folder(path, None, 32000)
        write_sentencepiece(path / "tokenizer.model")
        return read(path, form="original")
    tokenizer = KINDS[request.param]()
    write_folder(path, tokenizer, tokenizer.token_to_id(IMAGE_TOKEN))
    return read(path)


def edit(folder, tmp_path, name, change):
    """A copy of the folder's files with one JSON file changed."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())  # onto itself where it is the same folder
    raw = json.loads((tmp_path / name).read_text())
    change(raw)
    (tmp_path / name).write_text(json.dumps(raw))
    return tmp_path


@pytest.mark.parametrize("template", ["hub", "vicuna_v1"])
def test_prompt_equals_hugging_face_tokenizer(folder, template):
    """Text around the image as transformers tokenises it, its image token repeated for the image places."""
    prompter = read(folder, template)
    system = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user's questions. "
    )
    prompt = f"{system if template == 'vicuna_v1' else ''}USER: {IMAGE_TOKEN * 16}\n{ASK} ASSISTANT:"
    theirs = AutoTokenizer.from_pretrained(folder)
    assert prompter.prompt(ASK, SLOTS) == theirs(prompt).input_ids
    answer, _ = prompter.answer(ASK, TEXT, [], eos=False, num_image_tokens=SLOTS)
    assert answer == theirs(f"{prompt} {TEXT}").input_ids


def test_tk_01_spans_decode_to_their_text_for_random_splits(prompter):
    """Whatever the splits, their tokens follow one another without gap and spell the text."""
    rng = random.Random(0)
    for _ in range(20):
        cuts = [0, *sorted(rng.sample(range(1, len(TEXT)), 3)), len(TEXT)]
        spans = list(itertools.pairwise(cuts))
        ids, places = prompter.answer(ASK, TEXT, spans, eos=False, num_image_tokens=SLOTS)
        assert [place[0] for place in places[1:]] == [place[1] for place in places[:-1]]
        assert places[-1][1] == len(ids)
        assert prompter.decode(ids[places[0][0] :]).strip() == TEXT


def test_tk_01_spans_between_words_decode_to_exactly_their_text(prompter):
    """20 random splits, every part of which starts with its space."""
    rng = random.Random(1)
    borders = [place for place, letter in enumerate(TEXT) if letter == " "]
    for _ in range(20):
        cuts = [0, *sorted(rng.sample(borders, 4)), len(TEXT)]
        spans = list(itertools.pairwise(cuts))
        ids, places = prompter.answer(ASK, TEXT, spans, eos=False, num_image_tokens=SLOTS)
        for (start, end), (first, last) in zip(spans, places, strict=True):
            assert prompter.decode(ids[first:last]).strip() == TEXT[start:end].strip()
            # A piece decoded alone loses its first space, so the borders are seen in what stands before.
            assert prompter.decode(ids[places[0][0] : last]).strip() == TEXT[:end]


def test_tk_01_unit_at_a_word_border_is_exactly_its_text(prompter):
    """pre `A photo of a`, cur ` dog on a bench.`: the tokens of cur spell cur, and those before it pre."""
    text = "A photo of a dog on a bench."
    start = text.index(" dog")
    ids, [(first, last), (begin, _)] = prompter.answer(
        ASK, text, [(start, len(text)), (0, start)], eos=False, num_image_tokens=SLOTS
    )
    assert prompter.decode(ids[first:last]).strip() == "dog on a bench."
    assert prompter.decode(ids[begin:first]).strip() == "A photo of a"
    assert ids[: len(prompter.prompt(ASK, SLOTS))] == prompter.prompt(ASK, SLOTS)
    assert begin == len(prompter.prompt(ASK, SLOTS))


def test_tk_01_border_inside_a_character_or_token(prompter):
    """Byte pieces of one character stay together; a token belongs where its last character is."""
    start = TEXT.index("🐶")
    ids, [(first, last)] = prompter.answer(ASK, TEXT, [(start, start + 1)], eos=False, num_image_tokens=SLOTS)
    assert prompter.decode(ids[first:last]).strip() == "🐶"
    space = TEXT.index(" dog")
    ids, [(before, _), (behind, _)] = prompter.answer(
        ASK, TEXT, [(space, space + 4), (space + 1, space + 4)], eos=False, num_image_tokens=SLOTS
    )
    assert behind in (before, before + 1)  # " dog" is one token, or the space is its own
    assert prompter.decode(ids[behind : behind + 8]).strip().startswith("dog")


def test_tk_01_target_inside_a_group_of_characters(prompter):
    """An accent or the second half of a joined emoji, all in byte pieces, starts a target of its own."""
    for text, part in (
        ("A cafe\u0301 scene", "\u0301"),
        ("A \U0001f469\u200d\U0001f373 cooks", "\U0001f373"),
    ):
        start = text.index(part)
        ids, [(first, last), (_, before)] = prompter.answer(
            ASK, text, [(start, start + len(part)), (0, start)], eos=False, num_image_tokens=SLOTS
        )
        assert before == first
        assert prompter.decode(ids[first:last]) == part


def test_tk_01_rule_for_straddling_tokens():
    ends = [0, 2, 5, 5, 9]  # tokens behind characters 0-2, 2-5, nothing, 5-9
    assert [token_border(ends, place) for place in (0, 1, 2, 4, 5, 8, 9)] == [1, 1, 2, 2, 4, 4, 5]


def test_tk_02_exactly_one_bos(prompter):
    for instruction in (ASK, "<s>" + ASK, "<s><s>"):
        for ids in (
            prompter.prompt(instruction, SLOTS),
            prompter.answer(instruction, "<s> A dog.", [], eos=True, num_image_tokens=SLOTS)[0],
        ):
            assert ids[0] == BOS
            assert ids.count(BOS) == 1


def test_tk_03_no_special_token_inside_a_target(prompter):
    text = "A photo of a dog."
    start = text.index(" dog")
    ids, [(first, last)] = prompter.answer(ASK, text, [(start, len(text))], eos=False, num_image_tokens=SLOTS)
    assert not {BOS, EOS, prompter.pad_id, prompter.image_token_id} & set(ids[first:last])


def test_tk_05_control_tokens_in_text_stay_text(prompter):
    with pytest.raises(UserError, match="2 image slots for 1 image"):
        prompter.prompt(f"What is in {IMAGE_TOKEN}?", SLOTS)
    ids = prompter.prompt("Does </s> or <pad> end it?", SLOTS)
    assert EOS not in ids
    assert prompter.pad_id not in ids
    assert "</s> or <pad>" in prompter.decode(ids)
    text = f"a {IMAGE_TOKEN} </s>"
    ids, [(first, last)] = prompter.answer(ASK, text, [(0, len(text))], eos=True, num_image_tokens=SLOTS)
    assert ids.count(prompter.image_token_id) == 16
    assert ids.count(EOS) == 1
    assert ids[-1] == EOS
    assert prompter.decode(ids[first:last]).strip() == text


def test_tk_05_control_tokens_that_the_file_does_not_mark_stay_text(folder, tmp_path):
    def unmark(raw):
        for entry in raw["added_tokens"]:
            entry["special"] = False

    prompter = read(edit(folder, tmp_path, "tokenizer.json", unmark))
    ids, _ = prompter.answer(ASK, f"a {IMAGE_TOKEN} <s> </s> <pad>", [], eos=False, num_image_tokens=SLOTS)
    assert ids.count(prompter.image_token_id) == 16
    assert ids.count(BOS) == 1
    assert not {EOS, prompter.pad_id} & set(ids)


def test_tk_06_mismatch_prints_both_counts_and_the_fields(folder, tmp_path):
    path = edit(
        folder, tmp_path, "processor_config.json", lambda raw: raw.update(num_additional_image_tokens=0)
    )
    with pytest.raises(UserError) as error:
        read(path)
    for part in (
        "15 image tokens",
        "16 in config.json",
        "num_additional_image_tokens 0",
        "patch_size 7",
        "image_size 28",
        "vision_feature_select_strategy default",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(("strategy", "count"), [("default", 576), ("full", 577)])
def test_tk_06_image_places_are_counted_from_the_config(folder, tmp_path, strategy, count):
    path = edit(
        folder,
        tmp_path,
        "config.json",
        lambda raw: raw["vision_config"].update(image_size=336, patch_size=14),
    )
    path = edit(
        path, tmp_path, "config.json", lambda raw: raw.update(vision_feature_select_strategy=strategy)
    )
    (path / "processor_config.json").unlink()
    read(path)
    assert LlavaConfig.from_hf(read_json(path / "config.json")).num_image_tokens == count


@pytest.mark.parametrize(
    ("name", "change", "count"),
    [
        ("config.json", lambda raw: raw["vision_config"].update(patch_size=14), 4),
        ("config.json", lambda raw: raw.update(vision_feature_select_strategy="full"), 17),
    ],
)
def test_tk_11_image_places_follow_the_config(folder, tmp_path, name, change, count):
    path = edit(folder, tmp_path, name, change)
    (path / "processor_config.json").unlink()
    prompter = read(path)
    config = LlavaConfig.from_hf(read_json(path / "config.json"))
    assert prompter.prompt(ASK, config.num_image_tokens).count(prompter.image_token_id) == count


def test_tk_12_no_more_tokens_than_rows(folder, tmp_path):
    rows = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    known = len(AutoTokenizer.from_pretrained(folder))
    assert read(folder).num_tokens == known <= rows

    def exactly(raw, change=0):
        raw["text_config"].update(vocab_size=known + change)

    assert read(edit(folder, tmp_path, "config.json", exactly)).num_tokens == known
    path = edit(folder, tmp_path, "config.json", lambda raw: exactly(raw, -1))
    with pytest.raises(UserError, match=rf"has {known} tokens, but the model has rows for {known - 1}"):
        read(path)


def test_tk_09_end_token_for_sentences_not_for_clauses(prompter):
    text = "A dog, on a bench"
    clause, [(_, last)] = prompter.answer(ASK, text, [(0, 5)], eos=False, num_image_tokens=SLOTS)
    assert EOS not in clause
    assert last < len(clause)
    sentence, [(first, last), (_, inner)] = prompter.answer(
        ASK, text, [(0, len(text)), (0, 5)], eos=True, num_image_tokens=SLOTS
    )
    assert sentence.count(EOS) == 1
    assert sentence[first:last] == [*clause[first:], EOS]  # the end is a target of the whole text
    assert sentence[inner - 1] != EOS


def test_tk_10_all_characters_survive(prompter):
    text = "café 🐶 〜 “quote”"
    ids, [(first, last)] = prompter.answer(ASK, text, [(0, len(text))], eos=False, num_image_tokens=SLOTS)
    assert prompter.decode(ids[first:last]).strip() == text
    assert text in prompter.decode(prompter.prompt(text, SLOTS))


def test_spans_outside_the_text_are_refused(prompter):
    with pytest.raises(UserError, match="span 2:9 lies outside the 5 characters"):
        prompter.answer(ASK, "A dog", [(2, 9)], eos=False, num_image_tokens=SLOTS)


def test_reserved_characters_are_refused(prompter):
    with pytest.raises(UserError, match="reserved"):
        prompter.answer(ASK, "a \ue0f0image\ue0f1", [], eos=False, num_image_tokens=SLOTS)


def test_instruction_with_braces_is_text(prompter):
    assert "{p} {0}" in prompter.decode(prompter.prompt("What is {p} {0}?", SLOTS))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tokenizer_config.json", lambda raw: raw.pop("bos_token"), "bos_token is None"),
        ("tokenizer_config.json", lambda raw: raw.update(eos_token="<end>"), "eos_token is '<end>'"),
        ("config.json", lambda raw: raw["text_config"].update(vocab_size=100), "rows for 100"),
    ],
)
def test_contradicting_files_are_named(folder, tmp_path, name, change, message):
    path = edit(folder, tmp_path, name, change)
    with pytest.raises(UserError) as error:
        read(path)
    assert message in str(error.value)


def test_special_tokens_as_objects(folder, tmp_path):
    path = edit(
        folder, tmp_path, "tokenizer_config.json", lambda raw: raw.update(bos_token={"content": "<s>"})
    )
    assert read(path).bos_id == BOS


def test_unknown_template_and_missing_file(folder, tmp_path):
    with pytest.raises(UserError, match="'llama3', need one of hub, vicuna_v1"):
        read(folder, "llama3")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"no tokenizer; looked for tokenizer\.json"):
        read(tmp_path)


def test_needs_neither_torch_nor_transformers_nor_jax(folder):
    code = (
        "import sys; from pathlib import Path; from sare_jax.models.llava.prompts import LlavaPrompter; "
        "from sare_jax.models.llava.config import LlavaConfig; from sare_jax.files import read_json; "
        "from sare_jax.models.llava.source import LlavaSource; "
        f"folder = Path({str(folder)!r}); source = LlavaSource(folder, 'hub', LlavaConfig.from_hf("
        "read_json(folder / 'config.json')), {}); "
        "LlavaPrompter.from_source(source).prompt('What?', 16); "
        "print(sorted({'torch', 'transformers', 'jax'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
