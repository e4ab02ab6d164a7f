"""Reads the number out of a judge's reply, or says why there is none to read.

A reply that cannot be read is a failure with a reason, never a zero and never the first number that happens
to stand in the text.
"""

import ast
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from sare_jax.llm.replies import UnreadableError, after_reasoning

LOWEST = 1
"""The bottom of the judge's scale; its top is declared with the question (100 in EFUF's prompt)."""

_LABELS = ("score", "coverage", "answer", "rating")
_NUMBER = r"[-+]?\d+(?:[.,]\d+)*"
_VALUE = re.compile(
    rf"(?P<number>{_NUMBER})(?!\w)(?P<percent>\s*%)?"
    rf"(?:\s*(?:/|out of|of)(?:\s+the)?\s*(?P<top>{_NUMBER}))?"
    rf"(?P<range>\s*(?:-|–|—|to|or|and)\s*\d)?"
)
_BETWEEN = r"[\s*_`\"':=#<(\[]*"
_LABELLED = re.compile(
    rf"\b(?:{'|'.join(_LABELS)})\b{_BETWEEN}(?:(?:is|of)\b{_BETWEEN})?(?=[-+]?\d[\d.,]*(?!\w))", re.I
)
_FINAL = re.compile(r"\banswer\s*[*_`]*\s*:", re.I)
_REFUSAL = re.compile(
    r"\b(?:sorry|cannot|can['’]?t|unable|not able|won['’]t|will not|decline|refuse)\b", re.I
)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def read_score(reply: str, scale: int = 100) -> float:
    """The score that a judge's reply gives, in percent of the scale.

    Read are: a JSON object with a key `score`, `coverage`, `answer` or `rating` (alone, in prose or in a code
    fence, in either kind of quotes); a labelled number ("Answer: The coverage is 85", "Score: 85"); a reply
    that is a number and nothing else. A fraction ("85/100") is read where its bottom is the declared scale.
    Of a reply that thinks aloud, only what follows the last closing tag is read.

    Args:
      reply: text of the judge's reply, whole.
      scale: top of the scale that the question declares; its bottom is 1.

    Raises:
      UnreadableError: with the reason: "empty reply", "unfinished reasoning", "cut off", "refused",
        "no number", "no labelled number", "several numbers", "another scale", "out of range".
    """
    text = after_reasoning(reply)
    if not text:
        raise UnreadableError("empty reply")
    values = list(_json_values(text)) or list(_labelled_values(text)) or _bare_value(text)
    if not values:
        raise UnreadableError(_why_nothing(text))
    scores = {_in_percent(value, scale) for value in values}
    if len(scores) > 1:
        raise UnreadableError("several numbers")
    return scores.pop()


def _json_values(text: str) -> Iterator[str]:
    """Values under a label in every JSON object of the text, as text."""
    place = 0
    while (place := text.find("{", place)) >= 0:
        content, place = _object_at(text, place)
        yield from _under_labels(content)


def _object_at(text: str, start: int) -> tuple[Any, int]:
    """The object that begins at `start` and where it ends; None where a brace begins something else.

    Raises:
      UnreadableError: the object does not end.
    """
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError:
        end = text.find("}", start)
    if end < 0:
        raise UnreadableError("cut off")
    try:
        return ast.literal_eval(text[start : end + 1]), end + 1  # single quotes, as Python writes a dict
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None, start + 1


def _under_labels(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            if str(key).lower() in _LABELS and isinstance(value, int | float | str):
                yield str(value).strip()
            else:
                yield from _under_labels(value)
    elif isinstance(content, list):
        for value in content:
            yield from _under_labels(value)


def _labelled_values(text: str) -> Iterator[str]:
    """Numbers that stand behind a label; behind the last "Answer:" alone where there is one."""
    final = list(_FINAL.finditer(text))
    text = text[final[-1].start() :] if final else text
    for label in _LABELLED.finditer(text):
        if value := _VALUE.match(text, label.end()):
            yield value.group()


def _bare_value(text: str) -> list[str]:
    bare = text.strip("*_`\"'. \n\t")
    return [bare] if _VALUE.fullmatch(bare) else []


def _in_percent(value: str, scale: int) -> float:
    match = _VALUE.fullmatch(value)
    if match is None:
        raise UnreadableError("out of range" if value.lower() in ("nan", "inf", "-inf") else "no number")
    if match["range"]:
        raise UnreadableError("several numbers")
    number = _number(match["number"])
    if (match["top"] and _number(match["top"]) != scale) or (match["percent"] and scale != 100):
        raise UnreadableError("another scale")
    if not LOWEST <= number <= scale:
        raise UnreadableError("out of range")
    return 100 * number / scale


def _number(text: str) -> float:
    text = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
    try:
        number = float(text)
    except ValueError:  # "85,5", "1.2.3"
        raise UnreadableError("several numbers") from None
    return number if math.isfinite(number) else math.inf


def _why_nothing(text: str) -> str:
    numbers = set(re.findall(r"\d+(?:[.,]\d+)*", text))
    if len(numbers) > 1:
        return "several numbers"
    if _REFUSAL.search(text):
        return "refused"
    return "no labelled number" if numbers else "no number"
