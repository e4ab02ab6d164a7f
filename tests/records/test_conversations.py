"""Conversations in LLaVA's form and captions: which are read, which are left out, which are refused."""

import json

import pytest

from sare_jax.errors import UserError
from sare_jax.records.conversations import Conversation, read_conversations

ROWS = [
    {
        "id": "000000033471",
        "image": "coco/train2017/000000033471.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat are the colors of the bus?"},
            {"from": "gpt", "value": "The bus is white and red."},
            {"from": "human", "value": "Is it moving?"},
            {"from": "gpt", "value": "It stands. "},
            {"from": "human", "value": "a question that nobody answers"},
        ],
    },
    {
        "id": "x",
        "model": "",
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
    },
    {
        "id": "y",
        "image": "ocr_vqa/images/1.gif",
        "conversations": [{"from": "human", "value": "What?\n<image>"}, {"from": "gpt", "value": "That."}],
    },
    {"image": "a.jpg", "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": " "}]},
]
COLOURS = ("What are the colors of the bus?", "The bus is white and red.")


def read(tmp_path, records, turns="first", is_there=lambda name: not name.endswith(".gif")):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(records, indent=1))
    return read_conversations(path, turns, "Describe it.", is_there)


@pytest.mark.parametrize(
    ("turns", "said"), [("first", [COLOURS]), ("all", [COLOURS, ("Is it moving?", "It stands.")])]
)
def test_the_mix_of_llava(tmp_path, turns, said):
    kept, left_out = read(tmp_path, ROWS, turns)
    assert kept == [Conversation("coco/train2017/000000033471.jpg", tuple(said))]
    assert left_out == {"no image": 1, "image missing": 1, "no answer": 1}


def test_captions_answer_the_instruction(tmp_path):
    kept, left_out = read(
        tmp_path, [{"image": "1.jpg", "caption": "A cat."}, {"image": "2.jpg", "text": "A dog.\n"}]
    )
    assert [one.turns for one in kept] == [(("Describe it.", "A cat."),), (("Describe it.", "A dog."),)]
    assert left_out == {}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image": "1.jpg"}, "record 1: has neither `conversations` nor a `caption`"),
        ({"image": ["1.jpg"], "caption": "x"}, r"record 1: image is \['1\.jpg'\], need one file name"),
        ({"image": "1.jpg", "conversations": [{"from": "gpt", "value": "x"}]}, "conversations go gpt; need"),
        ({"image": "1.jpg", "conversations": [{"from": "human"}]}, "entries with `from` and `value`"),
        ({"image": "1.gif", "caption": "x"}, r"no record can be used \(1 × image missing\)"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, record, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, [record])
