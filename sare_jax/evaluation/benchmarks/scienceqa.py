"""ScienceQA: school questions with choices, half of them with an image (Lu et al. 2022), in LLaVA's form."""

import re
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import multiple
from sare_jax.evaluation.benchmarks.benchmark import Benchmark, find, folder_of
from sare_jax.evaluation.benchmarks.choices import LETTERS, parse_scienceqa
from sare_jax.evaluation.benchmarks.lettered import read_entries, rule_of, scorer
from sare_jax.schema import checked, read_object

FILE = "llava_test_CQM-A.json"
LETTER_ONLY = "{}\nAnswer with the option's letter from the given choices directly."
RULE = rule_of("ScienceQA", "LLaVA's rule (the letter alone, `X. …`, or one `The answer is X.`)")
_ONE_LINE_EACH = re.compile(r"^([A-E])\. (.+)$", re.MULTILINE)
_ONE_LINE_ALL = re.compile(r"\(([A-E])\) (.*?)(?= \([A-E]\) |\n|$)")
_LOWER_GRADES = tuple(f"grade{number}" for number in range(1, 7))


def read(path: Path) -> list[dict]:
    """Questions of `llava_test_CQM-A.json`.

    Files beside it are read where they exist: `pid_splits.json` says which belong to the test split, and
    `problems.json` gives choices, answers, subjects and grades; without it these are read from the text.

    Args:
      path: that file, or the folder that holds it.

    Raises:
      UserError: no such file, or an entry without question, choices or answer; names it.
    """
    file = find(path, (FILE,), "ScienceQA's questions in LLaVA's form")
    problems, splits = _beside(file, "problems.json"), _beside(file, "pid_splits.json")
    test = set(_ids(splits["test"], file.with_name("pid_splits.json"))) if "test" in splits else None

    def question(entry: dict) -> dict | None:
        key = str(entry["id"])
        return _question(entry, problems.get(key, {})) if test is None or key in test else None

    questions = read_entries(file, question, "a question with choices and answer in its conversations")
    if not questions:
        raise UserError(f"{file}: none of its ids is in the test split of pid_splits.json")
    return questions


def _beside(file: Path, name: str) -> dict:
    path = file.with_name(name)
    return read_object(path) if path.is_file() else {}


def _ids(listed: Any, path: Path) -> list[str]:
    return [str(key) for key in checked(listed, list[int | str], f"{path}: test")]


def _question(entry: dict, problem: dict) -> dict:
    human, gold = (str(turn["value"]) for turn in entry["conversations"][:2])
    text = human.replace("<image>", "").strip()
    choices = [str(choice) for choice in problem.get("choices", ())] or _choices(text)
    letter = LETTERS[problem["answer"]] if problem else _gold(gold)
    if len(choices) < 2 or LETTERS.index(letter) >= len(choices):
        raise ValueError(f"choices {choices}, answer {letter}")
    groups: dict[str, Any] = {}
    if problem:
        groups["subject"] = problem["subject"]
        groups["grade"] = "1-6" if problem["grade"] in _LOWER_GRADES else "7-12"
    has_text = bool(problem.get("hint"))
    context = [name for name, given in (("image", entry.get("image")), ("text", has_text)) if given]
    return {
        "id": str(entry["id"]),
        **({"image": str(entry["image"])} if entry.get("image") else {}),
        "question": text,
        "label": letter,
        "choices": choices,
        "groups": groups | {"context": context or ["none"]},
    }


def _choices(text: str) -> list[str]:
    choices = _ONE_LINE_EACH.findall(text) or _ONE_LINE_ALL.findall(text)
    return [choice.strip() for _, choice in choices]


def _gold(text: str) -> str:
    match = re.fullmatch(r"(?:Answer:\s*)?(?:The answer is\s+)?([A-E])\.?", text.strip())
    if match is None:
        raise ValueError(f"answer {text[:40]!r}")
    return match.group(1)


def images(path: Path) -> Path:
    """The folder of the images that belong to the benchmark's file or folder `path`."""
    return folder_of(Path(path), ("images/test", "ScienceQA_DATA/test", "images"))


BENCHMARK = Benchmark(
    name="scienceqa",
    title="ScienceQA",
    about="school questions with choices; `by.context.image` is LLaVA's IMG-Accuracy",
    prompts={"official": LETTER_ONLY, "lineage": LETTER_ONLY},
    read=read,
    images=images,
    score=scorer("scienceqa", RULE, parse_scienceqa),
    shown=multiple.SHOWN,
    counts=multiple.COUNTS,
    columns=multiple.accuracy_of("scienceqa", "ScienceQA"),
)
