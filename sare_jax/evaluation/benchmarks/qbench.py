"""Q-Bench: questions on low-level image quality with two to four choices (Wu et al. 2023); its dev part."""

from collections import Counter
from functools import partial
from pathlib import Path

from sare_jax.evaluation.benchmarks import multiple
from sare_jax.evaluation.benchmarks.benchmark import Benchmark, find, folder_of
from sare_jax.evaluation.benchmarks.choices import LETTERS, parse_first
from sare_jax.evaluation.benchmarks.lettered import read_entries, rule_of, scorer

FILE = "llvisionqa_dev.json"
TYPES = ("yes-or-no", "what", "how")
CONCERNS = ("distortion", "other", "in-context distortion", "in-context other")
RULE = rule_of("Q-Bench", "the first character is the right letter")


def read(path: Path) -> list[dict]:
    """Questions of `llvisionqa_dev.json`: img_path, question, candidates, correct_ans, type, concern.

    They have no ids; the image's name serves, with #2 and so on for its further questions.

    Args:
      path: that file, or the folder that holds it.

    Raises:
      UserError: no such file, or an entry that is not in the format; names it.
    """
    file = find(path, (FILE,), "Q-Bench's dev questions")
    asked: Counter[str] = Counter()
    return read_entries(file, partial(_question, asked), "a question in Q-Bench's format")


def _question(asked: Counter[str], entry: dict) -> dict:
    image = str(entry["img_path"])
    choices = [str(choice) for choice in entry["candidates"]]
    gold = choices.index(str(entry["correct_ans"]))
    asked[image] += 1
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    groups = {
        name: names[int(entry[name])]
        for name, names in (("type", TYPES), ("concern", CONCERNS))
        if name in entry
    }
    return {
        "id": image if asked[image] == 1 else f"{image}#{asked[image]}",
        "image": image,
        "question": str(entry["question"]),
        "options": "\n".join(lines),
        "label": LETTERS[gold],
        "choices": choices,
        "groups": groups,
    }


def images(path: Path) -> Path:
    """The folder of the images that belong to the benchmark's file or folder `path`."""
    return folder_of(Path(path), ("images", "images_llvisionqa"))


BENCHMARK = Benchmark(
    name="qbench",
    title="Q-Bench (dev)",
    about="low-level image quality, two to four choices",
    prompts={
        "official": "{}\nChoose between one of the options as follows:\n{options}\n",
        "lineage": "{}\n{options}\nAnswer with the option's letter from the given choices directly.",
    },
    read=read,
    images=images,
    score=scorer("qbench", RULE, parse_first),
    shown=multiple.SHOWN,
    counts=multiple.COUNTS,
    columns=multiple.accuracy_of("qbench", "Q-Bench"),
)
