import json

import pytest

from sare_jax.errors import UserError
from sare_jax.records.coco import read_truth
from sare_jax.records.texts import Dropped, match_captions, read_records, settings_of, stream_records
from tests.evaluation.small_worlds import truth_of, write_coco


def test_reads_real_annotations(coco80):
    truth = read_truth(coco80)
    assert len(truth.image_ids) == 80
    assert truth.instances[296284] == ("donut",)
    assert truth.categories(296284) == {"donut"}
    assert len(truth.references[296284]) == 5
    assert truth.resolve("COCO_val2014_000000296284.jpg") == 296284
    assert truth.partial == ()


def test_references_of_real_images_name_objects_without_an_instance(coco80):
    truth = read_truth(coco80)
    added = sum(len(truth.categories(i)) - len(truth.instances[i]) for i in truth.image_ids)
    assert added > 10


def test_annotations_in_a_subfolder(tmp_path):
    write_coco(tmp_path / "annotations", {1: ["dog"]}, {1: ["a dog"]})
    assert read_truth(tmp_path).image_ids == [1]


def test_a_file_name_goes_before_its_digits(tmp_path):
    folder = write_coco(tmp_path, {1: ["dog"], 2: ["cat"]}, {1: ["a dog"]})
    content = json.loads((folder / "instances_val2014.json").read_text())
    content["images"][0]["file_name"] = "scene_0002.png"
    (folder / "instances_val2014.json").write_text(json.dumps(content))
    truth = read_truth(folder)
    assert truth.resolve("images/scene_0002.png") == 1
    assert truth.resolve(2) == 2
    assert [truth.resolve(name) for name in (True, None, "kitchen", 2.5, -1)] == [None] * 5


def test_the_same_id_for_two_images_is_refused(tmp_path):
    write_coco(tmp_path, {1: ["dog"]}, {1: ["a dog"]}, "train2014")
    write_coco(tmp_path, {1: ["cat"]}, {1: ["a cat"]}, "val2014")
    with pytest.raises(UserError, match=r"val2014.*image id 1"):
        read_truth(tmp_path)


def test_ch_15_nothing_there_names_the_pattern(tmp_path):
    with pytest.raises(UserError, match=r"instances_\*\.json"):
        read_truth(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_truth(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"1": ["lamp"]}, "'lamp'"),
        ({"1": "dog"}, "'1'"),
        ({"1": [None]}, "'None'"),
        ({"7": ["dog"], "COCO_val2014_000000000007.jpg": ["cat"]}, "image 7 again"),
        ([1, 2], "image id"),
        ({"annotations": []}, "annotations folder"),
    ],
)
def test_bad_truth_is_named(tmp_path, content, names):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=names):
        read_truth(path)


@pytest.mark.parametrize(
    ("file", "content", "names"),
    [
        ("instances_val2014.json", {"images": []}, "categories"),
        ("instances_val2014.json", {"images": [{"id": 1}], "categories": []}, "file_name"),
        ("captions_val2014.json", {"annotations": [{"image_id": 1}]}, "caption"),
        ("captions_val2014.json", {"annotations": [{"image_id": 1, "caption": None}]}, "captions format"),
    ],
)
def test_broken_annotations_are_named(tmp_path, file, content, names):
    folder = write_coco(tmp_path, {1: ["dog"]}, {1: ["a dog"]})
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{file}.*{names}"):
        read_truth(folder)


def test_three_forms_of_a_caption_file(tmp_path, shared_data):
    rows = [{"image_id": 1, "caption": "a ### b\u2028c"}, {"image_id": 2, "caption": "café 🐶\nnext"}]
    lines, array, separated = (tmp_path / name for name in ("a.jsonl", "a.json", "a.txt"))
    lines.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8-sig"
    )
    array.write_text(json.dumps(rows), encoding="utf-16")
    separated.write_text("img_1.jpg ### a dog ### barks\nimg_2.jpg ### \n")
    assert read_records(lines) == (rows, {})
    assert read_records(array) == (rows, {})
    assert read_records(separated)[0] == [
        {"image": "img_1.jpg", "caption": "a dog ### barks"},
        {"image": "img_2.jpg", "caption": ""},
    ]
    real, _ = read_records(shared_data / "captions" / "minigpt4_annotated_30.txt")
    assert len(real) == 30
    assert real[0]["image"] == "COCO_train2014_000000000081.jpg"


def test_a_half_written_last_line_is_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"image_id": 1, "caption": "a dog"}\n{"image_id": 2, "cap')
    records, dropped = read_records(path)
    assert (len(records), dropped) == (1, {"half-written last line": ["line 2"]})
    path.write_text('{"image_id": 1, "cap\n{"image_id": 2, "caption": "a dog"}\n')
    with pytest.raises(UserError, match=r"a\.jsonl:1"):
        read_records(path)
    path.write_text("1.jpg ### a dog\n2.j")
    assert read_records(path)[1] == {"half-written last line": ["line 2"]}
    path.write_text("1.jpg ### a dog\n2.j\n")
    with pytest.raises(UserError, match=r"a\.jsonl:2: neither JSON"):
        read_records(path)


def test_records_come_as_they_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"image_id": 1}\n{"image_id": 2}\n{"image_id": 3,\n \n')
    records = stream_records(path, Dropped())
    assert [next(records), next(records)] == [{"image_id": 1}, {"image_id": 2}]
    with pytest.raises(UserError, match=r"a\.jsonl:4"):
        next(records)
    dropped = Dropped()
    path.write_text('{"image_id": 1}\n{"image_id": 3,\n \n  ')
    assert list(stream_records(path, dropped)) == [{"image_id": 1}]
    assert dropped == {"half-written last line": ["line 2"]}
    path.write_bytes(b'{"image_id": 1}\n{"a": "\xff"}\n')
    with pytest.raises(UserError, match=r"not in UTF-8 \(byte 23\)"):
        list(stream_records(path, Dropped()))


@pytest.mark.parametrize(
    ("content", "names"),
    [(b"", "no record"), (b"\xe9\xe8 ### x", "UTF-8"), (b"just words", "neither JSON"), (b"[1]", "record 1")],
)
def test_files_that_hold_no_records(tmp_path, content, names):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=names):
        read_records(path)
    with pytest.raises(UserError, match="absent"):
        read_records(tmp_path / "absent.txt")


def test_what_cannot_be_scored_is_dropped_by_reason(tmp_path):
    truth = truth_of(tmp_path, {1: ["dog"], 2: ["cat"]})
    rows = [
        {"image_id": 1, "caption": "a dog"},
        {"image_id": None, "caption": "a dog"},
        {"image_id": float("nan"), "caption": "a dog"},
        {"caption": "a dog"},
        {"image_id": 2, "caption": None},
        {"image_id": 2, "caption": 3},
        {"image_id": 1, "caption": "a dog"},
    ]
    matched = match_captions(rows, truth)
    assert matched.image_ids == [1]
    counts = {reason: entry["count"] for reason, entry in matched.dropped.summary().items()}
    assert counts == {"no image id": 3, "caption is no text": 2, "repeated": 1}
    with pytest.raises(UserError, match=r"nothing left to score.*no image id: 3"):
        match_captions(rows[1:6], truth)


def test_two_captions_of_an_image_are_refused(tmp_path):
    truth = truth_of(tmp_path, {7: ["dog"]})
    with pytest.raises(UserError, match="7"):
        match_captions([{"image_id": 7, "caption": "a dog"}, {"image_id": "7", "caption": "a cat"}], truth)


def test_reasons_stand_in_one_order_however_the_records_come(tmp_path):
    truth, dropped = truth_of(tmp_path, {1: ["dog"]}), Dropped({"half-written last line": ["line 9"]})
    dog = {"image_id": 1, "caption": "a dog"}
    matched = match_captions(iter([dog, dog, {"caption": "x"}]), truth, dropped)
    assert list(matched.dropped) == ["half-written last line", "no image id", "repeated"]
    assert dropped == {"half-written last line": ["line 9"]}
    mixed = [dog, dog | {"caption": "a cat"}, {"image_id": 5, "caption": "x"}]
    with pytest.raises(UserError, match=r"no annotation for 1 image\(s\): 5"):
        match_captions(mixed, truth)


def test_settings_are_taken_from_records():
    rows = [{"instruction": "Describe.", "max_new_tokens": 64, "caption": "x"}] * 3
    assert settings_of(rows) == {"instruction": "Describe.", "max_new_tokens": "64"}
