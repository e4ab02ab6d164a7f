"""The demo world on disk, in the format of COCO 2014.

`images/` holds all pictures in one folder (`COCO_train_000000000001.png`, …), `annotations/` an
`instances_*.json` and a `captions_*.json` for each of train, val and test, `world.json` what made it.
Where lessons are asked for, `lessons/` holds pictures of further scenes, and `lessons.json` what the demo's
LLaVA was taught about such ones, in the form of LLaVA's training data. Where questions are asked for,
`questions/` holds sets of them about further scenes (see `questions`).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging

from sare_jax import files, progress
from sare_jax.demo import questions as question_sets
from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.conversations import records
from sare_jax.demo.references import references
from sare_jax.demo.render import render
from sare_jax.demo.scenes import SIZE, Scene, sample_scene
from sare_jax.errors import UserError

SPLITS = ("train", "val", "test")
_RECORD, _PARTS = "world.json", ("images", "annotations", "lessons", "lessons.json", "questions")
LESSONS, QUESTIONS = len(SPLITS), len(SPLITS) + 1  # their scenes' numbers among the seeds
_INFO = {"description": "A drawn world in the format of COCO 2014", "version": "1.0", "year": 2014}
_LICENSE = {"id": 1, "name": "Same as the code that drew it", "url": ""}
_SOURCES = (
    "categories.py",
    "conversations.py",
    "drawing",
    "prompts.py",
    "questions.py",
    "references.py",
    "render.py",
    "scenes.py",
    "world.py",
    "writer.py",
)


def build(
    out: Path,
    *,
    train: int = 1200,
    val: int = 400,
    test: int = 400,
    lessons: int = 0,
    questions: int = 0,
    seed: int = 0,
) -> None:
    """Draws the images and writes their annotations; the same arguments give the same bytes.

    Nothing is done where `out` holds the same world already, unchanged. A world made otherwise, or changed
    since, is replaced when the new one is whole.

    Args:
      out: folder to make.
      train: number of training images. The first images of a split look the same however many there are.
      val: number of validation images.
      test: number of test images.
      lessons: number of scenes with lessons about them.
      questions: number of scenes that the question sets ask about.
      seed: starts every random draw: scenes, drawings and captions.

    Raises:
      UserError: `out` holds something else than a world.
    """
    out = Path(out)
    spec = {
        "train": train,
        "val": val,
        "test": test,
        "scenes_with_lessons": lessons,
        "scenes_with_questions": questions,
        "seed": seed,
        "source": _source_hash(),
    }
    if _holds(out, spec):
        return
    with (
        files.replacing(out) as draft,
        progress.bar(train + val + test + lessons + questions, "drawing images", unit="image") as bar,
    ):
        (draft / "images").mkdir(parents=True)
        first_id = 1
        for index, (split, count) in enumerate(zip(SPLITS, (train, val, test), strict=True)):
            _write_split(draft, split, list(_scenes(count, (seed, index))), first_id, bar)
            first_id += count
        if lessons:
            _write_lessons(draft, lessons, seed, bar)
        if questions:
            _write_questions(draft, questions, seed, bar)
        files.write_json(draft / _RECORD, files.sealed(spec | _contents(draft)))


def _holds(out: Path, spec: dict) -> bool:
    """Whether a folder holds this world, as it was drawn.

    Raises:
      UserError: it holds something that was not drawn here.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / _RECORD).exists():
        raise UserError(
            f"{out}: holds files that were not drawn here (no {_RECORD} among them) and stay as they are; "
            "choose another folder (config.data.root)"
        )
    try:
        record = files.read_sealed(out / _RECORD)
        if any(record.get(key) != value for key, value in spec.items()):
            return False
        if record.items() >= _contents(out).items():
            return True
        raise UserError(f"{out}: changed since it was drawn")
    except UserError as error:
        logging.warning("%s; drawn anew", error)
        return False


def _contents(folder: Path) -> dict[str, str]:
    return {name: files.digest(folder / name) if (folder / name).exists() else "" for name in _PARTS}


def _source_hash() -> str:
    """Hash of the code that decides what a world looks like."""
    folder = Path(__file__).parent
    paths = [path for name in _SOURCES for path in sorted((folder / name).glob("*.py")) or [folder / name]]
    return files.hash_value([files.hash_file(path) for path in paths])


def _scenes(count: int, seed: tuple[int, int]) -> Iterator[tuple[Scene, np.random.Generator]]:
    """Scenes, each with a generator of its own, which has still to decide how it is drawn and captioned."""
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        yield sample_scene(rng), rng


def _write_split(
    folder: Path,
    split: str,
    scenes: list[tuple[Scene, np.random.Generator]],
    first_id: int,
    bar: progress.Bar,
) -> None:
    images: list[dict] = []
    instances: list[dict] = []
    captions: list[dict] = []
    for image_id, (scene, rng) in enumerate(scenes, start=first_id):
        name = f"COCO_{split}_{image_id:012d}.png"
        render(scene, rng).save(folder / "images" / name, compress_level=1)
        images.append({"id": image_id, "file_name": name, "width": SIZE, "height": SIZE, "license": 1})
        for item in scene.objects:
            instances.append(_instance(len(instances) + 1 + first_id * 10, image_id, item.category, item.box))
        for caption in references(scene, rng):
            captions.append(
                {"id": len(captions) + 1 + first_id * 10, "image_id": image_id, "caption": caption}
            )
        bar.update(1)
    common = {"info": _INFO, "licenses": [_LICENSE], "images": images}
    annotations = folder / "annotations"
    files.write_json(
        annotations / f"instances_{split}.json",
        {**common, "annotations": instances, "categories": _categories()},
    )
    files.write_json(annotations / f"captions_{split}.json", {**common, "annotations": captions})


def _write_lessons(folder: Path, count: int, seed: int, bar: progress.Bar) -> None:
    (folder / "lessons").mkdir()
    taught = []
    for number, (scene, rng) in enumerate(_scenes(count, (seed, LESSONS)), start=1):
        name = f"lesson_{number:06d}.png"
        render(scene, rng).save(folder / "lessons" / name, compress_level=1)
        taught += records(name, scene, rng)
        bar.update(1)
    files.write_json(folder / "lessons.json", taught)


def _write_questions(folder: Path, count: int, seed: int, bar: progress.Bar) -> None:
    drawn = []
    for scene, rng in _scenes(count, (seed, QUESTIONS)):
        drawn.append(question_sets.Drawn(scene, render(scene, rng), rng))
        bar.update(1)
    question_sets.write(folder, drawn)


def _instance(number: int, image_id: int, category: str, box: tuple[float, float, float, float]) -> dict:
    """One entry of `annotations`; the outline is the box's."""
    left, top, right, bottom = (round(value, 2) for value in box)
    width, height = round(right - left, 2), round(bottom - top, 2)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CATEGORIES[category].id,
        "bbox": [left, top, width, height],
        "area": round(width * height, 2),
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "iscrowd": 0,
    }


def _categories() -> list[dict]:
    return [
        {"id": category.id, "name": category.name, "supercategory": category.supercategory}
        for category in CATEGORIES.values()
    ]
