import json
import os

import pytest

from sare_jax.errors import UserError
from sare_jax.language.words import read_table
from sare_jax.records import reading_cache
from sare_jax.records.coco import read_truth
from tests.evaluation.small_worlds import write_coco


@pytest.fixture(autouse=True)
def keep_every_file(monkeypatch, tmp_path):
    monkeypatch.setattr(reading_cache, "SMALLEST", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def facts(folder, table=None):
    truth = read_truth(folder, table)
    return truth.instances, truth.references, truth.files


def test_a_second_reading_gives_the_same_without_the_source(tmp_path):
    folder = write_coco(tmp_path / "a", {1: ["dog", "cat", "dog"], 2: []}, {1: ["a dog"], 2: ["café"]})
    first = facts(folder)
    assert first == ({1: ("dog", "cat"), 2: ()}, {1: ("a dog",), 2: ("café",)}, first[2])
    for path in folder.iterdir():  # the same size and time, no content that could be read
        times = path.stat()
        path.write_text("x" * times.st_size)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert facts(folder) == first


def test_a_changed_file_is_read_again_and_a_damaged_copy_is_made_anew(tmp_path):
    folder = write_coco(tmp_path / "a", {1: ["dog"]}, {1: ["a dog"]})
    facts(folder)
    for damage in (lambda text: "{", lambda text: text.replace("dog", "cat"), lambda text: text[:-1]):
        for kept in reading_cache.folder().iterdir():
            kept.write_text(damage(kept.read_text()))
        assert facts(folder)[0] == {1: ("dog",)}
        assert facts(folder)[1] == {1: ("a dog",)}
    write_coco(folder, {1: ["cat"], 2: ["dog"]}, {1: ["a cat"]})
    assert facts(folder)[0] == {1: ("cat",), 2: ("dog",)}


def test_another_word_table_needs_no_other_copy(tmp_path):
    folder = write_coco(tmp_path / "a", {1: ["dog"]}, {1: ["a pug"]})
    facts(folder)
    own = tmp_path / "own.txt"
    own.write_text("animal: dog\n")
    assert facts(folder, read_table(own))[0] == {1: ("animal",)}
    own.write_text("animal: cat\n")
    with pytest.raises(UserError, match="'dog' is not in the word table"):
        facts(folder, read_table(own))


def test_where_nothing_can_be_kept_reading_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert facts(write_coco(tmp_path / "a", {1: ["dog"]}, {1: ["a dog"]}))[0] == {1: ("dog",)}


@pytest.mark.parametrize("indent", [None, 2])
def test_outlines_anywhere_in_an_annotation_change_nothing(tmp_path, indent):
    polygon, runs = [[1.5, -2, 3e4], [7]], {"counts": [1, 2], "size": [4, 5]}
    annotations = [
        {"segmentation": polygon, "image_id": 1, "category_id": 1},
        {"image_id": 1, "segmentation": polygon, "category_id": 2},
        {"image_id": 2, "category_id": 1, "segmentation": polygon},
        {"segmentation": runs, "image_id": 2, "category_id": 2},
        {"segmentation": [], "image_id": 3, "category_id": 2},
        {"image_id": 3, "category_id": 1, "segmentation": polygon},
    ]
    folder = tmp_path / "a"
    folder.mkdir()
    content = {
        "images": [{"id": i, "file_name": f'{i} "segmentation": [1], .jpg'} for i in (1, 2, 3)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    (folder / "instances_val2014.json").write_text(json.dumps(content, indent=indent))
    (folder / "captions_val2014.json").write_text('{"annotations": []}')
    instances, _, files = facts(folder)
    assert instances == {1: ("dog", "cat"), 2: ("dog", "cat"), 3: ("cat", "dog")}
    assert files[2] == '2 "segmentation": [1], .jpg'
