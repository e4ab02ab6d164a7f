"""Finds the letter of a choice in a free-form answer, by the public rules and as a person would."""

import re
from collections.abc import Sequence

LETTERS = "ABCDE"

_ALONE = re.compile(r"^\(?([A-E])\)?[.):,;!]*$", re.IGNORECASE)
_FIRST = re.compile(r"^(?:\(([A-E])\)|([A-E])[.):,;](?=\s|$)|([A-E])\s+[-–—:]\s)")
_NAMED = re.compile(  # a small letter is a choice only in brackets or at the end: "the answer is a bird"
    r"\b(?i:answer|option|choice|letter)\b(?i:\s+(?:is|would be|should be))?(?i:\s+(?:option|choice|letter))?"
    r"\s*[:=]?\s*(?:\(([A-Ea-e])\)|([A-E])\b(?!')|([a-e])[.!\s]*$)"
)
_BRACKETED = re.compile(r"\(([A-E])\)")
_MARKUP = re.compile(r"[*_`\"“”#>~\[\]{}]+")
_WORD = re.compile(r"[^\W_]+")


def parse_scienceqa(text: str) -> str | None:
    """LLaVA's rule for ScienceQA (`eval_science_qa.py`).

    The letter alone, a letter that begins the text before ". ", or exactly one "The answer is X" with one
    character after it.
    """
    if len(text) == 1 and text in LETTERS:
        return text
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    letters = re.findall(r"The answer is ([A-Z]).", text)
    return letters[0] if len(letters) == 1 else None


def parse_first(text: str) -> str | None:
    """Q-Bench's rule: the first character, where it is one of the letters A to D."""
    return text[0] if text[:1] in tuple(LETTERS[:4]) else None


def parse_choice(text: str, choices: Sequence[str]) -> str | None:
    """Reads an answer as a person would.

    In this order: a letter alone or in front; the one letter that "answer", "option" or "choice" names; the
    one letter in brackets; the one choice whose words the answer holds, a longer choice before those that it
    contains. Two different letters decide nothing, and neither does one that no choice has.

    Args:
      text: what the model answered, whole.
      choices: texts of the choices A, B, …, in this order; five at most.

    Returns:
      The letter; None where it cannot be decided.
    """
    plain = _MARKUP.sub(" ", text.replace("’", "'")).strip()
    if alone := _ALONE.match(plain):
        return _within(alone.group(1).upper(), choices)
    if first := _FIRST.match(plain):
        return _within(next(filter(None, first.groups())), choices)
    for pattern in (_NAMED, _BRACKETED):
        named = {next(filter(None, match.groups())).upper() for match in pattern.finditer(plain)}
        if named:
            return _within(named.pop(), choices) if len(named) == 1 else None
    return _by_words(plain, choices)


def _within(letter: str, choices: Sequence[str]) -> str | None:
    return letter if LETTERS.index(letter) < len(choices) else None


def _by_words(plain: str, choices: Sequence[str]) -> str | None:
    answer = words(plain)
    listed = [words(choice) for choice in choices]
    held = [place for place, choice in enumerate(listed) if choice and holds(answer, choice)]
    best = [place for place in held if not any(_inside(listed[place], listed[other]) for other in held)]
    return LETTERS[best[0]] if len(best) == 1 else None


def _inside(part: list[str], whole: list[str]) -> bool:
    return len(part) < len(whole) and holds(whole, part)


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def holds(text: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the words `wanted` stand in `text`, one right after the other."""
    size = len(wanted)
    return any(list(text[i : i + size]) == list(wanted) for i in range(len(text) - size + 1))
