import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from sare_jax import files
from sare_jax.demo.prompts import EVALUATION_PROMPT
from sare_jax.demo.scenes import SIZE, sample_scene
from sare_jax.demo.world import build
from sare_jax.errors import UserError
from sare_jax.records.coco import read_truth
from sare_jax.records.conversations import read_conversations
from tests.faults.mutate import flip, junk

SIZES = {"train": 6, "val": 3, "test": 4}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "world"
    build(out, **SIZES, seed=5)
    return out


def contents(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): files.hash_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_files_are_laid_out_like_coco(world):
    names = sorted(path.name for path in (world / "annotations").iterdir())
    assert names == sorted(f"{kind}_{split}.json" for kind in ("instances", "captions") for split in SIZES)
    images = sorted((world / "images").iterdir())
    assert len(images) == sum(SIZES.values())
    assert images[0].name == "COCO_test_000000000010.png"
    assert Image.open(images[0]).size == (SIZE, SIZE)


def test_lessons_are_conversations_about_further_scenes(world, tmp_path):
    build(tmp_path / "taught", **SIZES, lessons=2, seed=5)
    taught = contents(tmp_path / "taught")
    assert {name: taught[name] for name in contents(world) if name != "world.json"}.items() <= taught.items()
    assert not (world / "lessons").exists()
    folder = tmp_path / "taught" / "lessons"
    read = read_conversations(
        tmp_path / "taught" / "lessons.json", "all", "", lambda name: (folder / name).is_file()
    )
    assert read.left_out == {}
    assert Counter(one.image for one in read.conversations) == dict.fromkeys(
        ("lesson_000001.png", "lesson_000002.png"), 6
    )
    prompts = [question for one in read.conversations for question, _ in one.turns]
    assert prompts.count(EVALUATION_PROMPT) == 2
    assert Counter(one.turns[0][1] for one in read.conversations)["Yes."] == 4


@pytest.mark.parametrize("split", SIZES)
def test_annotations_have_the_fields_of_coco(world, split):
    instances = files.read_json(world / "annotations" / f"instances_{split}.json")
    captions = files.read_json(world / "annotations" / f"captions_{split}.json")
    ids = [image["id"] for image in instances["images"]]
    assert len(ids) == len(set(ids)) == SIZES[split]
    assert instances["images"] == captions["images"]
    assert all((world / "images" / image["file_name"]).is_file() for image in instances["images"])
    assert Counter(caption["image_id"] for caption in captions["annotations"]) == dict.fromkeys(ids, 5)
    known = {category["id"] for category in instances["categories"]}
    for item in instances["annotations"]:
        assert item["image_id"] in ids
        assert item["category_id"] in known
        left, top, width, height = item["bbox"]
        assert item["area"] == pytest.approx(width * height, abs=0.01)
        assert min(left, top) >= 0
        assert max(left + width, top + height) <= SIZE + 0.01


def test_ids_are_unique_over_all_splits(world):
    for key in ("images", "annotations"):
        for kind in ("instances", "captions"):
            ids = [
                item["id"]
                for split in SIZES
                for item in files.read_json(world / "annotations" / f"{kind}_{split}.json")[key]
            ]
            assert len(ids) == len(set(ids)), (kind, key)


def test_truth_is_what_was_drawn(world):
    truth = read_truth(world / "annotations")
    for split, first_id, index in (("train", 1, 0), ("val", 7, 1), ("test", 10, 2)):
        for number in range(SIZES[split]):
            scene = sample_scene(np.random.default_rng([5, index, number]))
            assert truth.categories(first_id + number) == scene.categories


def test_same_arguments_give_the_same_bytes(world, tmp_path):
    build(tmp_path / "again", **SIZES, seed=5)
    assert contents(tmp_path / "again") == contents(world)
    build(tmp_path / "other", **SIZES, seed=6)
    assert contents(tmp_path / "other") != contents(world)


def test_nothing_is_done_twice_and_another_world_replaces(tmp_path):
    out = tmp_path / "world"
    build(out, train=2, val=1, test=1)
    image = out / "images" / "COCO_train_000000000001.png"
    before = image.stat().st_mtime_ns
    build(out, train=2, val=1, test=1)
    assert image.stat().st_mtime_ns == before
    build(out, train=3, val=1, test=1)
    assert len(list((out / "images").iterdir())) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_first_images_do_not_depend_on_how_many_there_are(world, tmp_path):
    build(tmp_path / "more", train=8, val=3, test=4, seed=5)
    name = "images/COCO_train_000000000003.png"
    assert contents(tmp_path / "more")[name] == contents(world)[name]


def test_unfinished_world_leaves_the_old_one(tmp_path, monkeypatch):
    out = tmp_path / "world"
    build(out, train=2, val=1, test=1)
    before = contents(out)

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("sare_jax.demo.world.references", fail)
    with pytest.raises(KeyboardInterrupt):
        build(out, train=4, val=1, test=1)
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


CHANGES = {
    "a pixel": lambda out: flip(out / "images" / "COCO_train_000000000002.png"),
    "no image": lambda out: (out / "images" / "COCO_val_000000000007.png").unlink(),
    "no images": lambda out: shutil.rmtree(out / "images"),
    "annotations": lambda out: junk(out / "annotations" / "instances_train.json"),
    "the record": lambda out: junk(out / "world.json"),
    "a value of the record": lambda out: flip(out / "world.json"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_world_that_was_changed_is_drawn_anew(world, tmp_path, change, caplog):
    out = tmp_path / "world"
    shutil.copytree(world, out)
    build(out, **SIZES, seed=5)
    assert not caplog.messages
    CHANGES[change](out)
    build(out, **SIZES, seed=5)
    assert [message.endswith("; drawn anew") for message in caplog.messages] == [True]
    assert contents(out) == contents(world)


def test_what_was_not_drawn_here_is_named_and_left(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.png").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"not drawn here.*choose another folder \(config\.data\.root\)"):
        build(tmp_path, **SIZES)
    assert contents(tmp_path) == before
