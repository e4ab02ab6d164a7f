"""MME: yes/no questions in pairs, scored by accuracy and by pairs that are right as a whole (Fu et al. 2023).

The score of a task is its accuracy plus the share of its images with both answers right, in percent, so 200
at the most; perception is the sum of ten tasks, cognition of four (protocols 1.14).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks.benchmark import SINGLE_WORD, Benchmark, asked_of, pair, unread
from sare_jax.evaluation.columns import Counts, Measure
from sare_jax.evaluation.grouped import groups_of, per_group, pooled, rows_of
from sare_jax.evaluation.metrics.pope_parse import Verdict, parse_stated
from sare_jax.files import read_text
from sare_jax.records.texts import Dropped, read_records

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
TASKS = (*PERCEPTION, *COGNITION)
MAXIMUM = 200 * len(TASKS)

COLUMNS = (
    "questions",
    "images",
    "official",
    "official_both",
    "robust",
    "robust_both",
    "unread_official",
    "unread_robust",
    "answer_words",
)
SHOWN = (
    "perception",
    "cognition",
    "total",
    "total_percent",
    "perception_robust",
    "cognition_robust",
    "total_robust",
    "mean_words",
)
RULE = (
    "MME: for each task accuracy + share of images with both answers right, in percent, summed; official: "
    "yes or no among the first four characters; robust: the yes or no that the answer states"
)
_ASKS_FOR_WORD = " Please answer yes or no."


def parse_official(text: str) -> Verdict:
    """The public script's rule (`calculation.py`): yes or no among the first four characters."""
    start = text.lower()[:4]
    if "yes" in start:
        return "yes"
    return "no" if "no" in start else "unknown"


def read(path: Path) -> list[dict]:
    """Questions of the released folder: in it a folder for each task, in that a text of two lines an image.

    A line is `question TAB Yes|No`. Both layouts are read: images and texts side by side, or in `images` and
    `questions_answers_YN`.

    Raises:
      UserError: no folder of a task, a line that is no question, or an image without exactly two questions.
    """
    root = images(path)
    folders = [root / task for task in TASKS if (root / task).is_dir()]
    if not folders:
        raise UserError(f"{path}: no folder {TASKS[0]}, {TASKS[1]}, …; give MME_Benchmark_release_version")
    return [question for folder in folders for question in _read_task(root, folder)]


def images(path: Path) -> Path:
    """The folder of the tasks, which the questions' `image` is relative to."""
    inside = Path(path) / "MME_Benchmark_release_version"
    return inside if inside.is_dir() else Path(path)


def _read_task(root: Path, folder: Path) -> list[dict]:
    apart = (folder / "questions_answers_YN").is_dir()
    texts, pictures = (folder / "questions_answers_YN", folder / "images") if apart else (folder, folder)
    names = {file.stem: file.name for file in sorted(pictures.glob("*")) if file.suffix != ".txt"}
    questions = []
    for file in sorted(texts.glob("*.txt")):
        lines = [line for line in read_text(file).splitlines() if line.strip()]
        if len(lines) != 2:
            raise UserError(f"{file}: {len(lines)} questions; MME asks two of each image")
        for number, line in enumerate(lines, start=1):
            text, tab, label = line.rpartition("\t")
            if not tab or label.strip().lower() not in ("yes", "no"):
                raise UserError(f"{file}:{number}: expected `question TAB Yes` or `… No`")
            picture = pictures / names.get(file.stem, f"{file.stem}.jpg")
            questions.append(
                {
                    "id": f"{folder.name}/{file.stem}/{number}",
                    "image": picture.relative_to(root).as_posix(),
                    "question": text.strip().removesuffix(_ASKS_FOR_WORD),
                    "label": label.strip().lower(),
                    "groups": {"task": folder.name},
                }
            )
    if not questions:
        raise UserError(f"{folder}: no text file with questions in it")
    return questions


def read_answers(path: str) -> tuple[list[dict], Dropped]:
    """Answers as JSON lines, or a folder of the public script's `task.txt` files.

    A line of these is `image TAB question TAB Yes|No TAB answer`, so they need no question list.

    Raises:
      UserError: no such file, or a line in another form.
    """
    if not Path(path).is_dir():
        return read_records(path)
    records: list[dict] = []
    dropped = Dropped()
    for task in TASKS:
        file = Path(path) / f"{task}.txt"
        if file.is_file():
            records += _read_results(file, task, dropped)
    if not records:
        raise UserError(f"{path}: no {TASKS[0]}.txt, {TASKS[1]}.txt, … in it; give the folder of the answers")
    return records, dropped


def _read_results(file: Path, task: str, dropped: Dropped) -> list[dict]:
    text = read_text(file)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    records: list[dict] = []
    asked: dict[str, int] = {}
    for number, line in lines:
        parts = line.rstrip("\r").split("\t", 3)
        if len(parts) < 4 or parts[2].strip().lower() not in ("yes", "no"):
            if number == lines[-1][0] and not text.endswith("\n") and records:
                dropped.add("half-written last line", f"{file.name} line {number}")
                continue
            raise UserError(f"{file}:{number}: expected `image TAB question TAB Yes|No TAB answer`")
        stem = Path(parts[0]).stem
        asked[stem] = asked.get(stem, 0) + 1
        records.append(
            {
                "id": f"{task}/{stem}/{asked[stem]}",
                "image": f"{task}/{Path(parts[0]).name}",
                "question": parts[1].strip().removesuffix(_ASKS_FOR_WORD),
                "label": parts[2].strip().lower(),
                "groups": {"task": task},
                "text": parts[3],
            }
        )
    if odd := [stem for stem, count in asked.items() if count != 2]:
        raise UserError(f"{file}: image(s) {', '.join(odd[:20])} have not two answers; MME asks two of each")
    return records


def metrics(groups: Sequence[str]) -> dict[str, bootstrap.Metric]:
    """The numbers by name; `groups` are the tasks, in the order in which their counts stand side by side."""
    size = len(COLUMNS)

    def summed(right: int, tasks: Sequence[str]) -> bootstrap.Metric:
        chosen = [place for place, group in enumerate(groups) if group in tasks]

        def value(sums: np.ndarray) -> np.ndarray:
            counts = per_group(sums, size)[..., chosen, :]
            single = bootstrap.divide(counts[..., right], counts[..., 0])
            both = bootstrap.divide(counts[..., right + 1], counts[..., 1])
            return 100.0 * (single + both).sum(axis=-1)

        return value

    total = summed(2, TASKS)
    return {
        "perception": summed(2, PERCEPTION),
        "cognition": summed(2, COGNITION),
        "total": total,
        "total_percent": lambda sums: 100.0 * total(sums) / MAXIMUM,
        "perception_robust": summed(4, PERCEPTION),
        "cognition_robust": summed(4, COGNITION),
        "total_robust": summed(4, TASKS),
        "mean_words": pooled(8, 0, size, scale=1.0),
    }


def score(
    questions: list[dict],
    answers: list[dict],
    *,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """MME's sums by the official parser, and by one that reads answers as a person would.

    Args:
      questions: from `read` or `benchmark.requests`; answered requests serve as both.
      answers: records with the question's id and the answer's text, see `benchmark.pair`.
      dropped: reason → places of the records that reading the files left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`; `perception` (to 2000), `cognition` (to 800), `total` (to 2800), `total_percent`
      (of 2800), the same as `…_robust`; `tasks` ({task: n, images, accuracy, accuracy_plus, score,
      score_robust}); `absent_tasks`; `unread`; the entries of `benchmark.Answered.about`; `intervals`;
      `rule`; `per_image`.

    Raises:
      UserError: questions and answers do not belong together; see `benchmark.pair`.
    """
    answered = pair(questions, answers, _fits, dropped)
    lines: dict[tuple[str, str], np.ndarray] = {}
    for question, text in answered.pairs:
        place = (question["image"], question["groups"]["task"])
        row = lines.setdefault(place, np.zeros(len(COLUMNS), int))
        row += _row(question["label"], text)
    for row in lines.values():  # an image is right when all of its questions are
        row[3], row[5] = row[2] == row[0], row[4] == row[0]
        row[1] = 1
    table: dict[str, list] = {
        "group": [task for _, task in lines],
        **bootstrap.per_image([image for image, _ in lines], COLUMNS, np.stack(list(lines.values()))),
    }
    groups = groups_of(table)
    counts = np.stack(list(rows_of(table, COLUMNS, groups).values()))
    named = metrics(groups)
    by_task = per_group(counts.sum(axis=0), len(COLUMNS)).astype(int)
    total = dict(zip(COLUMNS, by_task.sum(axis=0).tolist(), strict=True))
    about = answered.about
    present = about["n"] - about["missing"]["count"]
    absent = [task for task in TASKS if task not in groups]
    about["warnings"] += unread(total["unread_official"], present, "official rule", "yes or no")
    about["warnings"] += unread(total["unread_robust"], present, "robust rule", "yes or no")
    if absent:
        about["warnings"].append(f"tasks without questions, which count 0 in the sums: {', '.join(absent)}")
    return {
        "metric": "mme",
        **{name: bootstrap.value(counts, metric) for name, metric in named.items()},
        "n_images": len(lines),
        "unread": {"official": total["unread_official"], "robust": total["unread_robust"]},
        **about,
        "tasks": {task: _task(row) for task, row in zip(groups, by_task, strict=True)},
        "absent_tasks": absent,
        "intervals": bootstrap.intervals(counts, named, draws=draws, seed=seed),
        "rule": RULE,
        "per_image": table,
    }


def _fits(question: dict) -> bool:
    """Whether a question can be one of MME's."""
    return (
        question["label"] in ("yes", "no") and question["groups"].get("task") in TASKS and "image" in question
    )


def _row(label: str, text: str | None) -> list[int]:
    """One answer as a row of COLUMNS, those of images left at 0."""
    if text is None:
        return [1] + [0] * (len(COLUMNS) - 1)
    official, robust = parse_official(text), parse_stated(text)
    right, unclear = (official == label, robust == label), (official == "unknown", robust == "unknown")
    return [1, 0, right[0], 0, right[1], 0, *unclear, len(text.split())]


def _task(row: np.ndarray) -> dict[str, Any]:
    counts = dict(zip(COLUMNS, row.tolist(), strict=True))
    accuracy = 100 * counts["official"] / counts["questions"]
    plus = 100 * counts["official_both"] / counts["images"]
    robust = counts["robust"] / counts["questions"] + counts["robust_both"] / counts["images"]
    return {
        "n": counts["questions"],
        "images": counts["images"],
        "accuracy": accuracy,
        "accuracy_plus": plus,
        "score": accuracy + plus,
        "score_robust": 100 * robust,
    }


def _sum(key: str, help: str) -> Measure:
    return Measure(f"mme_{key}", f"MME {key}", ("benchmarks", "mme", key), "higher", help=help)


BENCHMARK = Benchmark(
    name="mme",
    title="MME",
    about="yes/no questions in pairs on perception and cognition",
    prompts={"official": "{}" + _ASKS_FOR_WORD, "lineage": SINGLE_WORD},
    read=read,
    images=images,
    score=score,
    shown=SHOWN,
    counts=Counts(COLUMNS, metrics),
    columns=(
        _sum("perception", "Sum over ten tasks of accuracy and accuracy+; to 2000."),
        _sum("cognition", "The same over four tasks; to 800."),
        asked_of("mme", "MME"),
    ),
    whole="its sums are over whole tasks",
    read_answers=read_answers,
)
