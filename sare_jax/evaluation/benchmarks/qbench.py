"""Q-Bench: questions on low-level image quality with two to four choices (Wu et al. 2023); its dev part."""

from collections import Counter
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks import multiple
from sare_jax.evaluation.benchmarks.benchmark import Benchmark, find, folder_of, lettered
from sare_jax.evaluation.benchmarks.choices import LETTERS, parse_choice, parse_first
from sare_jax.evaluation.benchmarks.command import command
from sare_jax.records.encodings import read_json
from sare_jax.records.texts import Dropped

FILE = "llvisionqa_dev.json"
TYPES = ("yes-or-no", "what", "how")
CONCERNS = ("distortion", "other", "in-context distortion", "in-context other")
RULE = (
    "Q-Bench: official: the first character is the right letter; lineage: the right letter stands somewhere "
    "in the answer (EFUF); robust: letter or choice as a person would read it"
)


def read(path: Path) -> list[dict]:
    """Questions of `llvisionqa_dev.json`: img_path, question, candidates, correct_ans, type, concern.

    They have no ids; the image's name serves, with #2 and so on for its further questions.

    Args:
      path: that file, or the folder that holds it.

    Raises:
      UserError: no such file, or an entry that is not in the format; names it.
    """
    file = find(path, (FILE,), "Q-Bench's dev questions")
    entries = read_json(file)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: expected a list of questions")
    seen: Counter[str] = Counter()
    questions = []
    for place, entry in enumerate(entries):
        try:
            questions.append(_question(entry, seen))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file}: entry {place} is not in Q-Bench's format ({error})") from None
    return questions


def _question(entry: dict, seen: Counter[str]) -> dict:
    image = str(entry["img_path"])
    choices = [str(choice) for choice in entry["candidates"]]
    gold = choices.index(str(entry["correct_ans"]))
    seen[image] += 1
    lettered = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    groups = {
        name: names[int(entry[name])]
        for name, names in (("type", TYPES), ("concern", CONCERNS))
        if name in entry
    }
    return {
        "id": image if seen[image] == 1 else f"{image}#{seen[image]}",
        "image": image,
        "question": str(entry["question"]),
        "options": "\n".join(lettered),
        "label": LETTERS[gold],
        "choices": choices,
        "groups": groups,
    }


def images(path: Path) -> Path:
    """The folder of the images."""
    return folder_of(Path(path), ("images", "images_llvisionqa"))


def judge(question: dict, text: str) -> multiple.Verdict:
    """The verdict on one answer, by the rules in `RULE`."""
    gold = question["label"]
    official, robust = parse_first(text), parse_choice(text, question["choices"])
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
    """Q-Bench's accuracy; see `multiple.score`."""
    return multiple.score(
        "qbench", RULE, judge, lettered, questions, answers, dropped=dropped, draws=draws, seed=seed
    )


BENCHMARK = Benchmark(
    name="qbench",
    title="Q-Bench (dev)",
    prompts={
        "official": "{}\nChoose between one of the options as follows:\n{options}\n",
        "lineage": "{}\n{options}\nAnswer with the option's letter from the given choices directly.",
    },
    read=read,
    images=images,
    score=score,
    shown=multiple.SHOWN,
)

if __name__ == "__main__":
    command(BENCHMARK)
