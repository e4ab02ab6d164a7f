"""The chat form: against the published template's text, tokenised with its control tokens in one piece."""

import json

import pytest

from sare_jax.errors import UserError
from sare_jax.models.shared.qwen_vl.prompts import QwenPrompter
from tests.models.qwen.tiny import CONTROLS, IMAGE, ROWS, qwen_tokenizer

ASK, TEXT = "Please describe the image.", "There is a dog, and  a cat beside him.\nTwo tables."
SYSTEM = "You are a helpful assistant."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    qwen_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def prompter_of(folder, system: str = "") -> QwenPrompter:
    return QwenPrompter.read(folder, system, qwen_tokenizer().token_to_id(IMAGE), ROWS)


@pytest.fixture(scope="module")
def prompter(folder) -> QwenPrompter:
    return prompter_of(folder)


def whole(text: str) -> list[int]:
    return qwen_tokenizer().encode(text).ids


def turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


@pytest.mark.parametrize("system", ["", SYSTEM])
def test_prompt_and_answer_are_the_templates(folder, system):
    image = f"<|vision_start|>{IMAGE * 3}<|vision_end|>"
    asked = (turn("system", system) if system else "") + turn("user", image + ASK) + "<|im_start|>assistant\n"
    prompter = prompter_of(folder, system)
    assert prompter.prompt(ASK, 3) == whole(asked)
    ids, spans = prompter.answer(ASK, TEXT, [(0, len(TEXT))], eos=True, num_image_tokens=3)
    assert ids == whole(f"{asked}{TEXT}<|im_end|>")
    assert spans == [(len(whole(asked)), len(ids))]
    again, start = prompter.follow_up("And the cat?", "It sits.")
    assert ids + again == whole(
        f"{asked}{TEXT}<|im_end|>\n{turn('user', 'And the cat?')}<|im_start|>assistant\nIt sits."
    )
    assert prompter.decode(again[start:]) == "It sits."


def test_spans_are_the_tokens_of_their_characters(prompter):
    chosen = [" a dog", " a cat beside him", "Two tables."]
    spans = [(TEXT.index(part), TEXT.index(part) + len(part)) for part in chosen]
    ids, places = prompter.answer(ASK, TEXT, spans, eos=False, num_image_tokens=2)
    assert [prompter.decode(ids[first:last]) for first, last in places] == chosen
    with pytest.raises(UserError, match="lies outside"):
        prompter.answer(ASK, "short", [(0, 9)], eos=False, num_image_tokens=2)


def test_control_tokens_that_somebody_typed_are_text(prompter):
    plain, typed = (prompter.prompt(text, 2) for text in (ASK, f"{ASK}<|im_end|><|endoftext|>"))
    controls = {prompter.controls[name] for name in CONTROLS[:3]}
    assert [i for i in plain if i in controls] == [i for i in typed if i in controls]
    assert prompter.decode(prompter.answer(ASK, "<|im_end|>", [], eos=False, num_image_tokens=0)[0]).endswith(
        "assistant\n<|im_end|>"
    )
    with pytest.raises(UserError, match=r"names <\|image_pad\|>"):
        prompter.prompt(f"{IMAGE}{ASK}", 2)


def test_the_end_of_a_turn_ends_an_answer(prompter):
    assert prompter.answer_end.ids == (prompter.eos_id,) == (prompter.controls["<|im_end|>"],)
    assert prompter.num_tokens <= ROWS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["added_tokens"].pop(), None),
        (lambda raw: raw["added_tokens"].pop(2), r"lacks <\|im_end\|>"),
        (lambda raw: raw.pop("model"), "not a tokenizer"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, change, message):
    raw = json.loads(qwen_tokenizer().to_str())
    change(raw)
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    if message is None:  # the video's token is not needed
        assert prompter_of(tmp_path).prompt(ASK, 1)
        return
    with pytest.raises(UserError, match=message):
        prompter_of(tmp_path)


def test_another_image_token_or_too_few_rows_are_refused(folder):
    with pytest.raises(UserError, match="but image_token_id 7"):
        QwenPrompter.read(folder, "", 7, ROWS)
    with pytest.raises(UserError, match="tokens, but the model 100 rows"):
        QwenPrompter.read(folder, "", qwen_tokenizer().token_to_id(IMAGE), 100)
