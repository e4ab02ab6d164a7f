"""POPE's questions: built by the official rules, or read from lists as released.

AoiDragon/POPE `main.py`, `utils.py`; protocols 5.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from sare_jax.errors import UserError
from sare_jax.files import hash_file
from sare_jax.records.coco import Truth
from sare_jax.records.texts import read_records
from sare_jax.schema import checked

Kind = Literal["random", "popular", "adversarial"]
KINDS: tuple[Kind, ...] = ("random", "popular", "adversarial")

_OBJECT = re.compile(r"is there an? (.+?) in th", re.IGNORECASE)


def question_for(name: str) -> str:
    """The official template, with "an" before a vowel ("Is there an oven in the image?")."""
    return f"Is there {'an' if name[:1].lower() in 'aeiou' else 'a'} {name} in the image?"


def object_of(question: str) -> str | None:
    """The object that a question in the template asks for; None where it is worded otherwise."""
    found = _OBJECT.search(question)
    return found.group(1) if found else None


def build(
    truth: Truth,
    kind: Kind,
    *,
    num_images: int = 500,
    questions_per_image: int = 6,
    seed: int = 0,
    image_ids: Iterable[int] | None = None,
) -> list[dict[str, Any]]:
    """Builds one question list.

    Each image gives its first annotated categories as positives, and after each of them a negative: a
    category neither in the image (instances or reference captions) nor asked before. `random` draws it
    uniformly; `popular` takes the most frequent; `adversarial` the one that most often shares an image with
    the positive just asked. The images depend on the seed alone, so the three kinds share them.

    Args:
      truth: annotations; frequencies are counted over all its images.
      kind: how negatives are chosen.
      num_images: images to draw.
      questions_per_image: half of them positive.
      seed: seeds the draw of images and of random negatives.
      image_ids: draw from these images only, e.g. a test split.

    Returns:
      Records `question_id` (from 1), `image_id`, `image`, `object`, `text`, `label` ("yes" or "no").

    Raises:
      UserError: an odd or empty number of questions, an unknown kind, or too few images with enough
        categories in them and enough outside.
    """
    if kind not in KINDS:
        raise UserError(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    if questions_per_image < 2 or questions_per_image % 2:
        raise UserError(f"questions_per_image: {questions_per_image} is not a positive even number")
    half = questions_per_image // 2
    frequency = _ranked(Counter(name for names in truth.instances.values() for name in names))
    images = _draw_images(truth, image_ids, num_images, half, frequency, seed)
    partners = _partners(truth) if kind == "adversarial" else {}
    rng = random.Random(f"{seed} negatives")
    questions: list[dict[str, Any]] = []
    for image_id in images:
        inside = truth.categories(image_id)
        asked: set[str] = set()
        for positive in truth.instances[image_id][:half]:
            absent = [name for name in frequency if name not in inside and name not in asked]
            negative = _choose(kind, absent, partners.get(positive, []), rng)
            asked.add(negative)
            for name, label in ((positive, "yes"), (negative, "no")):
                questions.append(
                    {
                        "question_id": len(questions) + 1,
                        "image_id": image_id,
                        "image": truth.files.get(image_id, str(image_id)),
                        "object": name,
                        "text": question_for(name),
                        "label": label,
                    }
                )
    return questions


def _choose(kind: Kind, absent: list[str], partners: list[str], rng: random.Random) -> str:
    if kind == "popular":
        return absent[0]
    if kind == "adversarial":
        for name in partners:
            if name in absent:
                return name
    return rng.choice(absent)


def _draw_images(
    truth: Truth,
    image_ids: Iterable[int] | None,
    num_images: int,
    half: int,
    names: list[str],
    seed: int,
) -> list[int]:
    pool = sorted(truth.instances if image_ids is None else truth.resolve_all(image_ids))
    fit = [
        image_id
        for image_id in pool
        if len(truth.instances[image_id]) >= half and len(set(names) - truth.categories(image_id)) >= half
    ]
    if num_images < 1 or len(fit) < num_images:
        raise UserError(
            f"num_images: {num_images} asked for, but {len(fit)} of {len(pool)} images have at least {half} "
            "annotated categories and as many absent ones; ask for fewer images or questions"
        )
    return random.Random(seed).sample(fit, num_images)


def _partners(truth: Truth) -> dict[str, list[str]]:
    """For each category the others, by the number of images that they share."""
    shared: dict[str, Counter] = {}
    for names in truth.instances.values():
        for name in names:
            shared.setdefault(name, Counter()).update(other for other in names if other != name)
    return {name: _ranked(counts) for name, counts in shared.items()}


def _ranked(counts: Counter) -> list[str]:
    """Names by falling count, ties by name, so that the order of the annotations does not matter."""
    return sorted(counts, key=lambda name: (-counts[name], name))


def read_questions(path: Path | str, exclude: Iterable[Any] = ()) -> tuple[list[dict], dict[str, Any]]:
    """Reads a question list, as released (JSON lines or an array); labels stay as they are.

    Args:
      path: records with `text` (or `question`), `label`, `image`, and mostly `question_id`.
      exclude: question ids to leave out, e.g. of labels known to be wrong.

    Returns:
      The questions in the form that `build` gives (without `image_id` where the list has none), and the
      list's identity: file, sha256, n, excluded.

    Raises:
      UserError: a key is missing, a label is neither yes nor no, an id occurs twice or an excluded one never,
        or the last line is half-written.
    """
    records, broken = read_records(path)
    if broken:
        raise UserError(f"{path}: its last line is half-written; get the list again")
    questions: dict[str, dict] = {}
    for number, record in enumerate(records, start=1):
        question = _normal(record, f"{path}: record {number}")
        question.setdefault("question_id", number)
        key = str(checked(question["question_id"], int | str, f"{path}: record {number}: question_id"))
        if key in questions:
            raise UserError(f"{path}: record {number}: question_id {key} occurs twice")
        questions[key] = question
    excluded = [str(key) for key in exclude]
    absent = [key for key in excluded if key not in questions]
    if absent:
        raise UserError(f"{path}: excluded question_id {', '.join(absent[:20])} is not in the list")
    left_out = set(excluded)
    kept = [question for key, question in questions.items() if key not in left_out]
    identity = {
        "file": Path(path).name,
        "sha256": hash_file(Path(path)),
        "n": len(kept),
        "excluded": excluded,
    }
    return kept, identity


def _normal(record: dict, where: str) -> dict:
    """One question with its text under `text`, a checked label and the object where the template shows it."""
    text = record.get("question", record.get("text"))
    for key, present in (("text", isinstance(text, str)), ("label", "label" in record)):
        if not present:
            raise UserError(f"{where}: no key {key!r}")
    label = record["label"].strip().lower() if isinstance(record["label"], str) else record["label"]
    if label not in ("yes", "no"):
        raise UserError(f'{where}: label is {record["label"]!r}; expected the text "yes" or "no"')
    named = checked(record.get("object"), str | None, f"{where}: object") or object_of(str(text))
    return {**record, "text": text, "label": label, **({"object": named} if named else {})}


def requests(questions: list[dict], instruction: Callable[[str], str] = str) -> list[dict]:
    """Questions as generation requests, whose answers can be scored without the question list.

    Args:
      questions: from `build` or `read_questions`.
      instruction: makes the prompt of a question, e.g. adds an answer format or an adversarial sentence.

    Returns:
      Records `id`, `image`, `instruction`, `question`, `label`, and `image_id`, `object` where known.
    """
    return [
        {
            "id": question["question_id"],
            **{key: question[key] for key in ("image_id", "image", "object") if key in question},
            "instruction": instruction(question["text"]),
            "question": question["text"],
            "label": question["label"],
        }
        for question in questions
    ]
