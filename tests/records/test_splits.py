"""Splits are disjoint, seeded and independent of listing order."""

import random

import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.records import splits
from sare_jax.records.splits import Image, Splits

IMAGES = tuple(Image(i, f"COCO_train2014_{i:012d}.jpg") for i in range(10, 20))


def test_cur_15_splits_are_disjoint_deterministic_and_written_down(tmp_path):
    shuffled = list(IMAGES)
    random.Random(3).shuffle(shuffled)
    first = splits.reserve(IMAGES, validation=2, test=2, seed=0)
    first.write(tmp_path / "a.json")
    splits.reserve(tuple(shuffled), validation=2, test=2, seed=0).write(tmp_path / "b.json")
    assert files.hash_file(tmp_path / "a.json") == files.hash_file(tmp_path / "b.json")
    parts = [set(first.train), set(first.val), set(first.test)]
    assert [len(part) for part in parts] == [6, 2, 2]
    assert set.union(*parts) == set(IMAGES)
    assert Splits.read(tmp_path / "a.json") == first
    assert splits.reserve(IMAGES, validation=2, test=2, seed=1) != first


def test_too_few_images_names_the_keys():
    with pytest.raises(UserError, match="reserve_validation"):
        splits.reserve(IMAGES, validation=5, test=5, seed=0)


def make_folder(tmp_path, names, listed):
    (tmp_path / "images").mkdir()
    for name in names:
        (tmp_path / "images" / name).write_bytes(b"")
    entries = [{"id": i, "file_name": name} for i, name in enumerate(listed)]
    files.write_json(tmp_path / "annotations" / "instances_train2014.json", {"images": entries})
    return tmp_path / "images", tmp_path / "annotations"


def test_images_without_annotations_are_named(tmp_path):
    images, annotations = make_folder(tmp_path, ["a.jpg", "b.png"], ["a.jpg"])
    with pytest.raises(UserError, match=r"1 images .* first is b\.png"):
        splits.in_folder(images, annotations)


def test_an_empty_folder_is_named(tmp_path):
    images, annotations = make_folder(tmp_path, ["notes.txt"], ["a.jpg"])
    with pytest.raises(UserError, match="holds no images"):
        splits.in_folder(images, annotations)


def test_annotated_images_that_are_not_there_are_left_out(tmp_path):
    images, annotations = make_folder(tmp_path, ["a.jpg"], ["a.jpg", "gone.jpg"])
    assert splits.in_folder(images, annotations) == (Image(0, "a.jpg"),)


def test_efufs_rule_takes_the_first_unused_files_by_name():
    images = tuple(Image(100 - i, f"{name}.jpg") for i, name in enumerate("hgfedcba"))
    used = {"folder/b.jpg", "d.jpg", "g.jpg", "elsewhere.jpg"}
    found = splits.first_unused(images, used, validation=1, test=2)
    assert [image.file for image in found.test] == ["a.jpg", "c.jpg"]
    assert [image.file for image in found.val] == ["e.jpg"]
    assert [image.file for image in found.train] == ["b.jpg", "d.jpg", "g.jpg"]
    assert splits.first_unused(images[::-1], {"b.jpg", "d.jpg", "g.jpg"}, validation=1, test=2) == found
    with pytest.raises(UserError, match=r"reserve_test = 6, but only 5"):
        splits.first_unused(images, {"b.jpg", "d.jpg", "g.jpg"}, validation=3, test=3)
    with pytest.raises(UserError, match="names none of the 8 images"):
        splits.first_unused(images, {"z.jpg"}, validation=1, test=1)


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg ### 0 ### dog, cat\nb.jpg ### -1 ### a hen\n",
        '{"image": "a.jpg", "caption": "x"}\n{"image": "b.jpg"}\n',
        '[{"image": "a.jpg", "sentence": "x", "position": 0, "score": 1.0}, {"image": "b.jpg"}]',
    ],
    ids=["objects.txt", "json lines", "pos_neg.json"],
)
def test_used_images_in_every_form(tmp_path, text):
    (tmp_path / "used").write_text(text)
    assert splits.used_images(tmp_path / "used") == {"a.jpg", "b.jpg"}


def test_a_file_without_image_names_is_refused(tmp_path):
    (tmp_path / "used").write_text('[{"file": "a.jpg"}]')
    with pytest.raises(UserError, match="names no image"):
        splits.used_images(tmp_path / "used")
