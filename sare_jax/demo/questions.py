"""Question sets about further scenes, in the files' formats of MME, GQA, ScienceQA and Q-Bench.

The answers are true by how the scenes were made. The demo's model was taught one kind of question, whether an
object is there; MME's task `existence` and GQA's `verify` questions ask it in other words. It was taught no
counts, sides, colours or letters.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from sare_jax import files
from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.prompts import QUESTION_SETS
from sare_jax.demo.scenes import KINDS, SIZE, Object, Scene
from sare_jax.evaluation.benchmarks import gqa, qbench, scienceqa

_LETTERS = "ABCD"
_APART = 0.15 * SIZE  # pixels between two centres of which one is plainly farther left
_PLURALS = {"person": "people"}
_COLOURS = ("red", "blue", "green", "yellow", "purple", "white", "black", "brown")
_BLUR = 3.0  # radius in pixels
_DARK = 0.35  # factor of the brightness


@dataclass(frozen=True)
class Drawn:
    """A scene, its picture, and the generator that draws what is asked about it."""

    scene: Scene
    image: Image.Image
    rng: np.random.Generator


def write(folder: Path, drawn: list[Drawn]) -> None:
    """Writes the four sets below the folder of a world, each about all of the scenes."""
    _write_mme(folder / QUESTION_SETS["mme"], drawn)
    _write_gqa(folder / QUESTION_SETS["gqa"], drawn)
    _write_scienceqa(folder / QUESTION_SETS["scienceqa"], drawn)
    _write_qbench(folder / QUESTION_SETS["qbench"], drawn)


def _write_mme(folder: Path, drawn: list[Drawn]) -> None:
    """`TASK/NAME.txt` with a question to be affirmed and one to be denied, beside the picture."""
    for task, pair in (
        ("existence", _there),
        ("count", _counted),
        ("position", _placed),
        ("color", _painted),
    ):
        (folder / task).mkdir(parents=True)
        for number, one in enumerate(drawn, start=1):
            asked = pair(one.scene, one.rng)
            if asked is None:
                continue
            lines = [
                f"{text} Please answer yes or no.\t{answer}"
                for text, answer in zip(asked, ("Yes", "No"), strict=True)
            ]
            files.write_text(folder / task / f"{number:06d}.txt", "\n".join(lines) + "\n")
            one.image.save(folder / task / f"{number:06d}.png", compress_level=1)


def _there(scene: Scene, rng: np.random.Generator) -> list[str]:
    named = _one(scene, rng).category, _absent(scene, rng, 1)[0]
    return [f"Is there {CATEGORIES[name].phrase} in this image?" for name in named]


def _counted(scene: Scene, rng: np.random.Generator) -> list[str]:
    name = _one(scene, rng).category  # of which a scene has one at the most
    return [f"Is there only one {name} in this image?", f"Are there two {_plural(name)} in this image?"]


def _placed(scene: Scene, rng: np.random.Generator) -> list[str] | None:
    if (pair := _left_and_right(scene, rng)) is None:
        return None
    left, right = (item.category for item in pair)
    first, second = (left, right) if rng.random() < 0.5 else (right, left)
    sides = ("left", "right") if first == left else ("right", "left")
    return [f"Is the {first} on the {side} side of the {second}?" for side in sides]


def _painted(scene: Scene, rng: np.random.Generator) -> list[str]:
    item = _one(scene, rng)
    others = [colour for colour in _COLOURS if colour != item.colour]
    colours = item.colour, others[rng.integers(len(others))]
    return [f"Is there {_in_colour(item, colour)} in this image?" for colour in colours]


def _write_gqa(folder: Path, drawn: list[Drawn]) -> None:
    """One JSON object of all questions, by id; pictures as JPEG, which the format names by its ending."""
    (folder / "images").mkdir(parents=True)
    entries: dict[str, dict[str, Any]] = {}
    for number, one in enumerate(drawn, start=1):
        one.image.save(folder / "images" / f"{number:06d}.jpg", quality=95)
        for text, answer, structural, semantic in _gqa_questions(one.scene, one.rng):
            entries[f"{len(entries) + 1:08d}"] = {
                "imageId": f"{number:06d}",
                "question": text,
                "answer": answer,
                "isBalanced": True,
                "types": {"structural": structural, "semantic": semantic},
            }
    files.write_json(folder / gqa.FILE, entries)


def _gqa_questions(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str, str, str]]:
    """(question, answer, structural type, semantic type)."""
    here, absent, item = _one(scene, rng).category, _absent(scene, rng, 1)[0], _one(scene, rng)
    asked = [
        (f"Is there {CATEGORIES[here].phrase} in the picture?", "yes", "verify", "obj"),
        (f"Is there {CATEGORIES[absent].phrase} in the picture?", "no", "verify", "obj"),
        (f"What color is the {item.category}?", item.colour, "query", "attr"),
        ("Which place is it?", scene.kind, "query", "global"),
    ]
    if pair := _left_and_right(scene, rng):
        left, right = (one.category for one in pair)
        side, first, second = ("left", left, right) if rng.random() < 0.5 else ("right", right, left)
        asked.append((f"Is the {first} to the left or to the right of the {second}?", side, "choose", "rel"))
    return asked


def _write_scienceqa(folder: Path, drawn: list[Drawn]) -> None:
    """LLaVA's conversations, with the files of problems and splits beside them."""
    conversations, problems = [], {}
    for number, one in enumerate(drawn, start=1):
        choices, right = _choices(one.scene, one.rng)
        key, text = str(number), "Which of these objects is in the picture?"
        picture = folder / "images" / "test" / key / "image.png"
        picture.parent.mkdir(parents=True)
        one.image.save(picture, compress_level=1)
        listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(_LETTERS, choices, strict=False))
        conversations.append(
            {
                "id": key,
                "image": f"{key}/image.png",
                "conversations": [
                    {"from": "human", "value": f"<image>\n{text}\n{listed}"},
                    {"from": "gpt", "value": _LETTERS[right]},
                ],
            }
        )
        problems[key] = {
            "question": text,
            "choices": choices,
            "answer": right,
            "hint": "",
            "image": "image.png",
            "grade": "grade2",
            "subject": "natural science",
            "split": "test",
        }
    files.write_json(folder / scienceqa.FILE, conversations)
    files.write_json(folder / "problems.json", problems)
    files.write_json(folder / "pid_splits.json", {"test": list(problems)})


def _choices(scene: Scene, rng: np.random.Generator) -> tuple[list[str], int]:
    """Names of one object that is there and of three that are not, and the place of the first."""
    right = int(rng.integers(4))
    names = _absent(scene, rng, 3)
    names.insert(right, _one(scene, rng).category)
    return names, right


def _write_qbench(folder: Path, drawn: list[Drawn]) -> None:
    """One JSON list; a third of the pictures is blurred and a third darkened, which is what is asked."""
    (folder / "images").mkdir(parents=True)
    entries = []
    for number, one in enumerate(drawn, start=1):
        state = ("clear", "blurred", "dark")[int(one.rng.integers(3))]
        name = f"{number:06d}.png"
        _spoilt(one.image, state).save(folder / "images" / name, compress_level=1)
        blurred = "Yes" if state == "blurred" else "No"
        light = "Dark" if state == "dark" else "Bright"
        for text, candidates, answer, kind, concern in (
            ("Is this image blurred?", ["Yes", "No"], blurred, 0, 0),
            ("How is the lighting of this image?", ["Dark", "Bright"], light, 2, 1),
        ):
            entries.append(
                {
                    "img_path": name,
                    "question": text,
                    "candidates": candidates,
                    "correct_ans": answer,
                    "type": kind,
                    "concern": concern,
                }
            )
    files.write_json(folder / qbench.FILE, entries)


def _spoilt(image: Image.Image, state: str) -> Image.Image:
    if state == "blurred":
        return image.filter(ImageFilter.GaussianBlur(_BLUR))
    return ImageEnhance.Brightness(image).enhance(_DARK) if state == "dark" else image


def _one(scene: Scene, rng: np.random.Generator) -> Object:
    return scene.objects[rng.integers(len(scene.objects))]


def _absent(scene: Scene, rng: np.random.Generator, count: int) -> list[str]:
    """Categories that are not there: of this kind of scene where it has enough of them, else of all."""
    for names in (KINDS[scene.kind].weights, CATEGORIES):
        absent = [name for name in names if name not in scene.categories]
        if len(absent) >= count:
            return [absent[index] for index in rng.choice(len(absent), size=count, replace=False)]
    raise AssertionError("a scene has fewer objects than there are categories")


def _left_and_right(scene: Scene, rng: np.random.Generator) -> tuple[Object, Object] | None:
    """Two objects of which the first stands plainly farther left; None where no two do."""
    pairs = [(a, b) for a in scene.objects for b in scene.objects if _centre(b) - _centre(a) > _APART]
    return pairs[rng.integers(len(pairs))] if pairs else None


def _centre(item: Object) -> float:
    return (item.box[0] + item.box[2]) / 2


def _in_colour(item: Object, colour: str) -> str:
    article = "an" if colour[0] in "aeiou" else "a"
    return f"a person in {colour}" if item.category == "person" else f"{article} {colour} {item.category}"


def _plural(name: str) -> str:
    return _PLURALS.get(name, f"{name}es" if name.endswith(("s", "ch")) else f"{name}s")
