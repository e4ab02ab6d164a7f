"""Object HalBench: CHAIR of the objects that a language model extracts from 300 answers.

Rohrbach et al. 2018 in the form of RLHF-V (Yu et al. 2024, 2312.00849), counted as
`eval/eval_gpt_obj_halbench.py` of RLHF-V/RLAIF-V does at 83d917b (protocols 8.5). There GPT-3.5
(gpt-3.5-turbo-0613, retired) extracts; here the objects are given in the answers, or the judge that is named
extracts them, asked in this project's own words. `layout` writes the file that the released script reads.
"""

import base64
import binascii
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks.benchmark import (
    Benchmark,
    Judging,
    Pairs,
    asked_of,
    find,
    folder_of,
    pair,
)
from sare_jax.evaluation.benchmarks.judged import about_judge, verdicts_of
from sare_jax.evaluation.benchmarks.objhal_objects import (
    INSTRUCTION,
    categories_of,
    is_names,
    prompt_for,
    read_objects,
)
from sare_jax.evaluation.columns import Measure, ungrouped
from sare_jax.files import json_line, read_jsonl, replacing
from sare_jax.records.coco import Truth, read_truth
from sare_jax.records.texts import Dropped
from sare_jax.schema import whole_number

FILE = "obj_halbench_300_with_image.jsonl"
OBJECTS = "extract_objs"
COLUMNS = (
    "answers",
    "hallucinated",
    "with_object",
    "objects",
    "objects_hallucinated",
    "categories_named",
    "categories_true",
    "words",
)
METRICS: dict[str, bootstrap.Metric] = {
    "response_hall": bootstrap.share(1, 2),
    "object_hall": bootstrap.ratio(4, 3),
    "chair_s": bootstrap.share(1, 0),
    "recall": bootstrap.ratio(5, 6),
    "mean_words": bootstrap.ratio(7, 0, 1.0),
}
RULE = (
    "Object HalBench: of the objects in `extract_objs` (released script: by gpt-3.5-turbo-0613; here "
    "given, or by the judge that `model` names, in this project's words) those that are COCO categories; "
    "response_hall: answers with an absent one among those with any; object_hall: absent among all; chair_s: "
    "answers with an absent one among all; names read by spaCy's small model (there: en_core_web_trf)"
)


def read(path: Path) -> list[dict]:
    """The questions of `obj_halbench_300_with_image.jsonl`, with what COCO says of their images.

    Args:
      path: a folder with that file (or the file) and COCO 2014's annotations in `annotations` or
        `coco2014/annotations`: instances and captions of val2014, and of train2014 where it is there.

    Raises:
      UserError: a file is missing or not in the format, or an image has no annotation.
    """
    file = find(path, (FILE,), "Object HalBench's questions")
    truth = _truth(file.parent)
    return [_question(file, truth, number, entry) for number, entry in enumerate(_entries(file))]


def _entries(file: Path) -> list[dict]:
    entries = read_jsonl(file)
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry.get("question"), str) or whole_number(str(entry.get("image_id"))) is None:
            raise UserError(
                f"{file}:{number}: expected a question in Object HalBench's format, with image_id"
            )
    return entries


def _truth(folder: Path) -> Truth:
    names = ("annotations", "coco2014/annotations", "coco2014")
    return read_truth(folder_of(folder, names))


def _question(file: Path, truth: Truth, number: int, entry: dict) -> dict:
    image_id = int(entry["image_id"])
    (known,) = truth.resolve_all([image_id])
    objects = sorted(truth.categories(known))
    return {
        "id": str(number),
        "image": truth.files.get(known) or _name(image_id),
        "image_id": image_id,
        "question": entry["question"],
        "label": ", ".join(objects) or "nothing annotated",
        "objects": objects,
        "groups": {},
    }


def _name(image_id: int) -> str:
    return f"COCO_val2014_{image_id:012d}.jpg"


def images(path: Path) -> Path:
    """The folder `images` or `val2014` beside the questions.

    Where neither exists, the pictures that the questions' file carries are written to `images` first.

    Raises:
      UserError: a picture in the file is not in base64.
    """
    file = find(path, (FILE,), "Object HalBench's questions")
    folder = folder_of(file.parent, ("images", "val2014"))
    if not folder.is_dir():
        _unpack(file, folder)
    return folder


@lru_cache(maxsize=4)
def _unpack(file: Path, folder: Path) -> None:
    entries = _entries(file)
    pictured = {question["image"]: entry for question, entry in zip(read(file), entries, strict=True)}
    if not any("image" in entry for entry in entries):
        return
    with replacing(folder) as draft:
        draft.mkdir()
        for name, entry in pictured.items():
            try:
                (draft / name).write_bytes(base64.b64decode(entry["image"], validate=True))
            except (KeyError, TypeError, binascii.Error):
                raise UserError(
                    f"{file}: the picture of image {entry['image_id']} is not in base64"
                ) from None


def score(
    questions: list[dict],
    answers: list[dict],
    *,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Object HalBench's numbers from answers with extracted objects.

    Args:
      questions: from `read` or `benchmark.requests`; answered requests serve as both.
      answers: records with the question's id, the answer's text and the names of its objects in
        `extract_objs`, which `judged.judged_answers` adds.
      dropped: reason → places of the records that reading the files left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able, in percent: `metric`; `response_hall`, `object_hall` (the two published numbers), `chair_s`,
      `recall`; `mean_words`; all None where no answer has its objects; `n_extracted`; the entries of
      `benchmark.Answered.about`; `model` and `instruction` of the judge; `intervals`; `rule`; `per_image`.

    Raises:
      UserError: questions and answers do not belong together; see `benchmark.pair`.
    """
    answered = pair(questions, answers, _fits, dropped, "are left out")
    verdicts = verdicts_of(OBJECTS, questions, answers)
    given: dict[str, list[str]] = {key: names for key, names in verdicts.items() if is_names(names)}
    lines: dict[str, np.ndarray] = {}
    extracted = 0
    for question, text in answered.pairs:
        names = given.get(question["id"])
        row = lines.setdefault(question["image"], np.zeros(len(COLUMNS), int))
        if text is not None and names is not None:
            row += np.array(_row(question["objects"], categories_of(names), text))
            extracted += 1
    counts = np.stack(list(lines.values()))
    present = answered.about["n"] - answered.about["missing"]["count"]
    judge, warnings = about_judge(OBJECTS, INSTRUCTION, answers, present - extracted)
    answered.about["warnings"] += warnings
    wanted = METRICS if extracted else {}
    return {
        "metric": "objhal",
        **{name: bootstrap.value(counts, METRICS[name]) if name in wanted else None for name in METRICS},
        "n_images": len(lines),
        "n_extracted": extracted,
        **answered.about,
        **judge,
        "intervals": bootstrap.intervals(counts, wanted, draws=draws, seed=seed),
        "rule": RULE,
        "per_image": bootstrap.per_image(list(lines), COLUMNS, counts),
    }


def _row(objects: list[str], named: list[str], text: str) -> list[int]:
    """One answer as a row of COLUMNS."""
    absent = [category for category in named if category not in objects]
    present = set(named) - set(absent)
    return [
        1,
        int(bool(absent)),
        int(bool(named)),
        len(named),
        len(absent),
        len(present),
        len(objects),
        len(text.split()),
    ]


def _fits(question: dict) -> bool:
    """Whether a question is one of Object HalBench's, with its image's objects."""
    return (
        isinstance(question.get("id"), str)
        and isinstance(question.get("image"), str)
        and isinstance(question.get("image_id"), int)
        and is_names(question.get("objects"))
    )


def layout(pairs: Pairs) -> str:
    """The file that `eval_gpt_obj_halbench.py` reads: lines of question_id, image_id, prompt, text."""
    return "".join(
        json_line(
            {
                "question_id": int(question["id"]),
                "image_id": question["image_id"],
                "prompt": question["question"],
                "text": text,
            }
        )
        for question, text in pairs
        if text is not None
    )


_column = partial(Measure, better="lower")

BENCHMARK = Benchmark(
    name="objhal",
    title="Object HalBench",
    about="CHAIR of the objects that a judge of yours extracts from detailed answers",
    prompts={"official": "{}", "lineage": "{}"},
    read=read,
    images=images,
    score=score,
    shown=tuple(METRICS),
    counts=ungrouped(COLUMNS, METRICS),
    columns=(
        _column(
            "objhal_response_hall",
            "ObjHal resp.",
            ("benchmarks", "objhal", "response_hall"),
            help="Answers with an absent object among those that name any COCO object, in percent.",
        ),
        _column(
            "objhal_object_hall",
            "ObjHal obj.",
            ("benchmarks", "objhal", "object_hall"),
            help="Absent objects among the COCO objects that the answers name, in percent.",
        ),
        asked_of("objhal", "ObjHal"),
    ),
    max_new_tokens=512,
    layout=layout,
    judging=Judging(OBJECTS, prompt_for, read_objects, unasked=[]),
)
