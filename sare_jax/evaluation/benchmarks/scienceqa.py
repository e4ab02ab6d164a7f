"""ScienceQA: school questions with choices, half of them with an image (Lu et al. 2022), in LLaVA's form."""

import re
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks import multiple
from sare_jax.evaluation.benchmarks.benchmark import Benchmark, find, folder_of, lettered
from sare_jax.evaluation.benchmarks.choices import LETTERS, parse_choice, parse_scienceqa
from sare_jax.evaluation.benchmarks.command import command
from sare_jax.records.encodings import read_json
from sare_jax.records.texts import Dropped

FILE = "llava_test_CQM-A.json"
LETTER_ONLY = "{}\nAnswer with the option's letter from the given choices directly."
RULE = (
    "ScienceQA: official: LLaVA's rule (the letter alone, `X. …`, or one `The answer is X.`); lineage: the "
    "right letter stands somewhere in the answer (EFUF); robust: letter or choice as a person would read it"
)
_ONE_LINE_EACH = re.compile(r"^([A-E])\. (.+)$", re.MULTILINE)
_ONE_LINE_ALL = re.compile(r"\(([A-E])\) (.*?)(?= \([A-E]\) |\n|$)")
_LOWER_GRADES = tuple(f"grade{number}" for number in range(1, 7))


def read(path: Path) -> list[dict]:
    """Questions of `llava_test_CQM-A.json`.

    Beside it, where they are there: `pid_splits.json` says which belong to the test split, and
    `problems.json` gives choices, answers, subjects and grades; without it these are read from the text.

    Args:
      path: that file, or the folder that holds it.

    Raises:
      UserError: no such file, or an entry without question, choices or answer; names it.
    """
    file = find(path, (FILE,), "ScienceQA's questions in LLaVA's form")
    entries = read_json(file)
    problems = _beside(file, "problems.json")
    splits = _beside(file, "pid_splits.json")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: expected a list of entries with id, image and conversations")
    test = set(map(str, splits["test"])) if "test" in splits else None
    questions = []
    for place, entry in enumerate(entries):
        try:
            key = str(entry["id"])
            if test is None or key in test:
                questions.append(_question(entry, problems.get(key, {})))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{file}: entry {place} is no question with choices and answer ({error})"
            ) from None
    if not questions:
        raise UserError(f"{file}: none of its ids is in the test split of pid_splits.json")
    return questions


def _beside(file: Path, name: str) -> dict:
    path = file.with_name(name)
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object")
    return content


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
    context = [name for name, there in (("image", entry.get("image")), ("text", has_text)) if there]
    return {
        "id": str(entry["id"]),
        **({"image": str(entry["image"])} if entry.get("image") else {}),
        "question": text,
        "label": letter,
        "choices": choices,
        "groups": groups | {"context": context or ["none"]},
    }


def _choices(text: str) -> list[str]:
    found = _ONE_LINE_EACH.findall(text) or _ONE_LINE_ALL.findall(text)
    return [choice.strip() for _, choice in found]


def _gold(text: str) -> str:
    found = re.fullmatch(r"(?:Answer:\s*)?(?:The answer is\s+)?([A-E])\.?", text.strip())
    if found is None:
        raise ValueError(f"answer {text[:40]!r}")
    return found.group(1)


def images(path: Path) -> Path:
    """The folder of the images."""
    return folder_of(Path(path), ("images/test", "ScienceQA_DATA/test", "images"))


def judge(question: dict, text: str) -> multiple.Verdict:
    """The verdict on one answer, by the rules in `RULE`."""
    gold = question["label"]
    official, robust = parse_scienceqa(text), parse_choice(text, question["choices"])
    return multiple.Verdict(
        official=official == gold,
        lineage=gold in text,
        robust=robust == gold,
        read_official=official is not None,
        read_robust=robust is not None,
    )


def score(
    questions: list[dict],
    answers: list[dict],
    *,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """ScienceQA's accuracy; see `multiple.score`. `by["context"]["image"]` is LLaVA's IMG-Accuracy."""
    return multiple.score(
        "scienceqa", RULE, judge, lettered, questions, answers, dropped=dropped, draws=draws, seed=seed
    )


BENCHMARK = Benchmark(
    name="scienceqa",
    title="ScienceQA",
    prompts={"official": LETTER_ONLY, "lineage": LETTER_ONLY},
    read=read,
    images=images,
    score=score,
    shown=multiple.SHOWN,
)

if __name__ == "__main__":
    command(BENCHMARK)
