"""The demo's question sets: read by the benchmarks' own readers, and true of the scenes."""

import json
import re

import numpy as np
import pytest
from PIL import Image, ImageStat

from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.prompts import QUESTION_SETS
from sare_jax.demo.world import QUESTIONS, _scenes, build
from sare_jax.evaluation.benchmarks.benchmark import benchmarks_of

SCENES, SEED = 24, 3
SIZES = {"train": 0, "val": 0, "test": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("asked") / "world"
    build(out, **SIZES, questions=SCENES, seed=SEED)
    return out


@pytest.fixture(scope="module")
def scenes():
    return [scene for scene, _ in _scenes(SCENES, (SEED, QUESTIONS))]


def questions_of(world, name) -> list[dict]:
    ((benchmark, path),) = benchmarks_of({name: str(world / QUESTION_SETS[name])})
    questions = benchmark.read(path)
    assert all((benchmark.images(path) / question["image"]).is_file() for question in questions)
    return questions


def scene_of(question, scenes):
    """The scene that a question's picture shows; pictures are numbered."""
    return scenes[int(re.search(r"(\d+)[./]", question["image"])[1]) - 1]


@pytest.mark.parametrize(
    ("name", "fewest", "labels"),
    [
        ("mme", 6 * SCENES, {"yes", "no"}),
        ("gqa", 4 * SCENES, {"yes", "no", "left", "right"}),
        ("scienceqa", SCENES, set("ABCD")),
        ("qbench", 2 * SCENES, set("AB")),
    ],
)
def test_sets_are_in_the_official_formats_and_have_all_answers(world, name, fewest, labels):
    questions = questions_of(world, name)
    assert len(questions) >= fewest
    assert len({question["id"] for question in questions}) == len(questions)
    assert labels <= {question["label"] for question in questions}


def test_mme_is_right_about_objects_colours_and_sides(world, scenes):
    for question in questions_of(world, "mme"):
        scene, text, yes = scene_of(question, scenes), question["question"], question["label"] == "yes"
        named = [name for name in CATEGORIES if re.search(rf"\b{name}", text)] or ["person"]
        by_name = {item.category: item for item in scene.objects}
        task = question["groups"]["task"]
        if task == "existence":
            assert yes == (named[0] in by_name)
        elif task == "count":
            assert yes == text.startswith("Is there only one")
            assert named[0] in by_name
        elif task == "color":
            assert yes == (re.search(rf"\b{by_name[named[0]].colour}\b", text) is not None)
        else:
            first, side, second = re.fullmatch(
                r"Is the (\w+) on the (\w+) side of the (\w+)\?", text
            ).groups()
            centres = [sum(by_name[name].box[::2]) / 2 for name in (first, second)]
            assert yes == ((centres[0] < centres[1]) == (side == "left"))


def test_gqa_and_scienceqa_are_right(world, scenes):
    for question in questions_of(world, "gqa"):
        scene, text = scene_of(question, scenes), question["question"]
        if found := re.fullmatch(r"Is there an? (\w+) in the picture\?", text):
            assert question["label"] == ("yes" if found[1] in scene.categories else "no")
        elif found := re.fullmatch(r"What color is the (\w+)\?", text):
            assert question["label"] in {i.colour for i in scene.objects if i.category == found[1]}
        elif text == "Which place is it?":
            assert question["label"] == scene.kind
        else:
            names = re.fullmatch(r"Is the (\w+) to the left or to the right of the (\w+)\?", text).groups()
            boxes = {item.category: item.box for item in scene.objects}
            first, second = (sum(boxes[name][::2]) for name in names)
            assert question["label"] == ("left" if first < second else "right")
    for question in questions_of(world, "scienceqa"):
        present = [name in scene_of(question, scenes).categories for name in question["choices"]]
        assert present.index(True) == "ABCD".index(question["label"])
        assert sum(present) == 1


def test_qbench_asks_about_what_was_done_to_the_picture(world):
    path = world / QUESTION_SETS["qbench"]
    edges, light = {"Yes": [], "No": []}, {"Dark": [], "Bright": []}
    for entry in json.loads((path / "llvisionqa_dev.json").read_text()):
        image = Image.open(path / "images" / entry["img_path"]).convert("L")
        if entry["type"] == 2:
            light[entry["correct_ans"]].append(ImageStat.Stat(image).mean[0])
        else:
            array = np.asarray(image, float)
            edges[entry["correct_ans"]].append(np.abs(np.diff(array)).max() / array.mean())
    assert max(light["Dark"]) < min(light["Bright"])
    assert np.mean(edges["Yes"]) < np.mean(edges["No"]) / 2


def test_the_rest_of_the_world_is_as_without_questions(world, tmp_path):
    build(tmp_path / "plain", **SIZES, seed=SEED)
    for part in ("images", "annotations"):
        for path in (tmp_path / "plain" / part).iterdir():
            assert path.read_bytes() == (world / part / path.name).read_bytes()
    assert not (tmp_path / "plain" / "questions").exists()
