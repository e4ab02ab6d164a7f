"""What the multiple-choice benchmarks share: reading their files, and judging a letter by three rules."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import multiple
from sare_jax.evaluation.benchmarks.choices import LETTERS, parse_choice
from sare_jax.files import read_json


def read_entries(file: Path, question: Callable[[dict], dict | None], form: str) -> list[dict]:
    """Questions of a JSON list.

    Args:
      file: path of the JSON file.
      question: from an entry to its question; None leaves it out.
      form: what an entry should look like, in words for messages.

    Raises:
      UserError: no list, or an entry that is not in the form; names it.
    """
    entries = read_json(file)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: expected a list; each of its entries is {form}")
    questions = []
    for place, entry in enumerate(entries):
        try:
            made = question(entry)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{file}: entry {place} is not {form} ({error})") from None
        if made is not None:
            questions.append(made)
    return questions


def fits(question: dict) -> bool:
    """Whether a question has choices, and its label is the letter of one of them."""
    choices = question.get("choices")
    return isinstance(choices, list) and question["label"] in tuple(LETTERS[: len(choices)])


def rule_of(title: str, official: str) -> str:
    """The three rules in words; `official` describes the benchmark's own one."""
    return (
        f"{title}: official: {official}; lineage: the right letter stands somewhere in the answer (EFUF); "
        "robust: letter or choice as a person would read it"
    )


def judge_by(parse_official: Callable[[str], str | None]) -> multiple.Judge:
    """Makes the judge of one answer: by a benchmark's own parser, by EFUF's rule and by the robust parser."""

    def judge(question: dict, text: str) -> multiple.Verdict:
        gold = question["label"]
        official, robust = parse_official(text), parse_choice(text, question["choices"])
        return multiple.Verdict(
            official=official == gold,
            lineage=gold in text,
            robust=robust == gold,
            read_official=official is not None,
            read_robust=robust is not None,
        )

    return judge


def scorer(
    name: str, rule: str, parse_official: Callable[[str], str | None]
) -> Callable[..., dict[str, Any]]:
    """`multiple.score` for a multiple-choice benchmark, to be called with questions and answers."""
    return multiple.scorer(name, rule, judge_by(parse_official), fits)
