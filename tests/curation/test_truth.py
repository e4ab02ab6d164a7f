import json

import pytest

from sare_jax.curation.captions import Caption, read_captions
from sare_jax.curation.objects import find_objects
from sare_jax.curation.truth import coco_truth, plain_captions, read_marks
from sare_jax.curation.units import Unit, units_of
from sare_jax.errors import UserError


def unit(caption: str, phrase: str) -> Unit:
    start = caption.index(phrase)
    return Unit(phrase, 0, len(caption), start, start + len(phrase))


def test_marks_judge_the_mention_by_its_head(tmp_path):
    path = tmp_path / "marks.txt"
    path.write_text(
        "COCO_val2014_000000000009.jpg ### {A red dog} with [a leash] near a wall.\nb.png ### [A cat]\n"
    )
    marks = read_marks(path)
    text = "A red dog with a leash near a wall."
    caption = Caption(9, "other/name.jpg", text)
    assert marks.verdict(caption, unit(text, "red dog")) is True
    assert marks.verdict(caption, unit(text, "dog with")) is None
    assert marks.verdict(caption, unit(text, "leash")) is False
    assert marks.verdict(caption, unit(text, "wall")) is None
    assert marks.verdict(Caption(8, "x.jpg", text), unit(text, "leash")) is None
    assert marks.verdict(Caption(-1, "b.png", "A cat"), unit("A cat", "cat")) is False
    marks.require([caption])
    with pytest.raises(UserError, match=r"marks\.txt: none of its 2 marked captions"):
        marks.require([Caption(9, "x.jpg", "Another caption.")])


def test_marks_count_characters_of_the_caption_as_it_was(tmp_path):
    text = "  A dog runs.\nA cat\r\nsleeps. "
    path = tmp_path / "marks.txt"
    path.write_text("7.png ### {A dog} runs. [A cat]  sleeps.\n")
    marks = read_marks(path)
    assert marks.verdict(Caption(7, "7.png", text), unit(text, "dog")) is True
    assert marks.verdict(Caption(7, "7.png", text), unit(text, "cat")) is False
    assert marks.verdict(Caption(7, "7.png", text), unit(text, "sleeps")) is None


def test_json_lines_of_the_annotation_page_count_where_they_are_done(tmp_path):
    path = tmp_path / "marks.jsonl"
    mark = {"start": 2, "end": 5, "verdict": "correct"}
    records = [
        {"image_id": i, "caption": "A dog runs.", "marks": [mark], "done": done}
        for i, done in ((1, True), (2, False))
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert list(read_marks(path).marks) == [(1, "A dog runs.")]
    assert plain_captions(path) == [{"image_id": 1, "caption": "A dog runs."}]
    path.write_text(json.dumps(records[1]) + "\n")
    with pytest.raises(UserError, match="holds no marked caption"):
        read_marks(path)
    with pytest.raises(UserError, match="holds no finished caption"):
        plain_captions(path)


def test_coco_truth(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text('{"9": ["dog", "dining table"], "10": []}')
    truth = coco_truth(path)
    assert truth.verdict(Caption(9, "a", "x"), Unit("brown puppy", 0, 1, 0, 1)) is True
    assert truth.verdict(Caption(10, "a", "x"), Unit("brown puppy", 0, 1, 0, 1)) is False
    assert truth.verdict(Caption(9, "a", "x"), Unit("wall", 0, 1, 0, 1)) is None
    with pytest.raises(UserError, match=r"annotations lack 1 of the captioned images, .* image_id 11"):
        truth.require([Caption(9, "a", "x"), Caption(11, "b", "x")])


def test_real_marks_judge_most_of_the_objects(shared_data, nlp, tmp_path):
    """People marked objects of MiniGPT-4's captions; most of what is extracted there can be judged."""
    path = shared_data / "captions" / "minigpt4_annotated_30.txt"
    marks = read_marks(path)
    plain = tmp_path / "captions.jsonl"
    plain.write_text("".join(json.dumps(record) + "\n" for record in plain_captions(path)))
    captions, _ = read_captions(plain, tmp_path)
    assert len(captions) >= 25
    verdicts = [
        marks.verdict(caption, unit)
        for caption, found in zip(captions, find_objects([c.text for c in captions], nlp), strict=True)
        for unit in units_of(caption.text, found)[0]
    ]
    judged = [verdict for verdict in verdicts if verdict is not None]
    assert len(judged) > 0.6 * len(verdicts)
    assert 0.05 < judged.count(False) / len(judged) < 0.4
