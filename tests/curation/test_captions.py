import json

import pytest

from sare_jax.curation.captions import (
    LONGEST,
    Caption,
    id_of_name,
    images_without_caption,
    read_captions,
    unusable,
    usable_images,
)
from sare_jax.errors import UserError


def write(path, *records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


def test_efuf_lines(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text(
        "COCO_train2014_000000000009.jpg ### A sign reads ### sale. Stars *\nb.png ### A café 🐶\n"
    )
    captions, left_out = read_captions(path, tmp_path)
    assert captions == [
        Caption(9, "COCO_train2014_000000000009.jpg", "A sign reads ### sale. Stars *"),
        Caption(-1, "b.png", "A café 🐶"),
    ]
    assert not left_out


def test_other_keys_ids_from_names_and_names_from_ids(tmp_path):
    (tmp_path / "COCO_val2014_000000000042.jpg").write_bytes(b"")
    path = write(
        tmp_path / "any.jsonl",
        {"file_name": "000000000007.jpg", "text": "A cat."},
        {"image_id": 42, "caption": "A dog."},
        {"image_id": 43, "caption": "A cow."},
        {"image_path": "x/y.png", "caption": "A hen.", "finish_reason": "length", "model": "m"},
        {"image": "z.png", "caption": "A pig."},
        {"image": "x/y.png", "caption": "A hen and a cock."},
    )
    captions, left_out = read_captions(path, tmp_path)
    assert [(c.image_id, c.image) for c in captions] == [
        (7, "000000000007.jpg"),
        (42, "COCO_val2014_000000000042.jpg"),
        (43, "image_id 43"),
        (-1, "x/y.png"),
        (-2, "z.png"),
        (-1, "x/y.png"),
    ]
    assert [c.cut_off for c in captions] == [False, False, False, True, False, False]
    assert not left_out
    assert usable_images(captions, tmp_path)[1]["image_id 43"] == "image missing"


def test_records_that_are_no_caption_are_counted_by_reason(tmp_path):
    path = write(
        tmp_path / "c.jsonl",
        {"image": "1.png", "caption": "A dog."},
        {"image": "1.png", "caption": "A dog."},
        {"image": "1.png", "caption": "Another dog."},
        {"image": "2.png", "caption": None},
        {"image": "2.png"},
        {"caption": "A dog."},
        {"image": 5, "caption": "A dog."},
    )
    with path.open("a") as stream:
        stream.write('{"image": "3.png", "capt')
    captions, left_out = read_captions(path, tmp_path)
    assert [c.text for c in captions] == ["A dog.", "Another dog."]
    assert left_out == {
        "half-written last line": 1,
        "repeated caption": 1,
        "caption is no text": 2,
        "no image named": 2,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no record in it"),
        ('{"image": "1.png", "caption": 7}\n', "1 caption is no text"),
        ("one line\nanother\n", "captions.jsonl:1: neither JSON nor"),
        ('{"image": "1.png", "caption": "A"}\nnot json\n{}\n', "captions.jsonl:2: not valid JSON"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_is_one_line(tmp_path, text, message):
    path = tmp_path / "captions.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_captions(path, tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A dog runs.", ""),
        ("Two dogs running", ""),
        ("A man, a dog, a cat and a door", ""),  # all function words somewhere in Europe
        ("[A dog] {a cat} (on) <a mat>", ""),
        (" \n\t ", "empty caption"),
        ("A dog. " * (LONGEST // 7 + 1), f"longer than {LONGEST} characters"),
        ("word " * 2000, f"longer than {LONGEST} characters"),
        ("[[[[{{{{((((A dog))))}}}}]]]]", "mostly no letters"),
        ("{}[]()<>", "mostly no letters"),
        ("Das Bild zeigt einen Hund, der auf der Wiese liegt.", "not English"),
        ("La imagen muestra un perro en la playa.", "not English"),
        ("На картинке собака бежит по траве.", "not English"),
        ("画像には犬がいます。", "not English"),
    ],
)
def test_captions_that_cannot_be_curated(text, reason):
    assert unusable(text) == reason


def test_no_real_caption_is_refused(shared_data):
    lines = (shared_data / "captions" / "llava15_greedy.jsonl").read_text().splitlines()
    lines += (shared_data / "coco80_captions_boxes.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    texts = [text for r in records for text in ([r["caption"]] if "caption" in r else r["captions"])]
    assert len(texts) > 800
    assert not [text for text in texts if unusable(text)]


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("COCO_train2014_000000000009.jpg", 9),
        ("000000581929.jpg", 581929),
        ("42.png", 42),
        ("sub/COCO_val2014_000000000042.jpg", 42),
        ("dog_42.png", None),
        ("1234567890123.jpg", None),
    ],
)
def test_ids_in_names(name, image_id):
    assert id_of_name(name) == image_id


def test_names_that_cannot_be_files_are_counted(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"")
    (tmp_path / "images" / "spare.jpg").write_bytes(b"")
    (tmp_path / "2.png").write_bytes(b"")
    names = [
        "1.png",
        "a\0b.png",
        "x" * 300 + ".png",
        "../2.png",
        "/etc/passwd",
        "images/../../2.png",
        "gone.png",
    ]
    found, refused = usable_images(
        [Caption(i, n, "A dog.") for i, n in enumerate(names)], tmp_path / "images"
    )
    assert found == ["1.png"]
    assert list(refused.values()) == [
        *["image name impossible"] * 2,
        *["image outside the folder"] * 3,
        "image missing",
    ]
    assert images_without_caption([Caption(1, "1.png", "A dog.")], tmp_path / "images") == 1
