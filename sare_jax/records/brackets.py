"""Objects marked inside a caption: `{a dog}` is in the image, `[a leash]` is not (protocols 1.12).

The format is the lineage's. Of its own this module adds one thing, so that every caption can be written: a
bracket that belongs to the text stands behind a backslash.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Verdict = Literal["correct", "hallucinated"]

_OPENS: dict[str, Verdict] = {"{": "correct", "[": "hallucinated"}
_SIGNS: dict[Verdict, tuple[str, str]] = {"correct": ("{", "}"), "hallucinated": ("[", "]")}
_CLOSES = {"}": "{", "]": "["}
_SPECIAL = frozenset("{}[]\\")
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")


class Mark(NamedTuple):
    """A stretch of a caption, in characters from `start` to before `end`, and what a person says of it."""

    start: int
    end: int
    verdict: Verdict


def parse(text: str) -> tuple[str, tuple[Mark, ...]]:
    """Caption and marks of a text with brackets.

    Raises:
      ValueError: a bracket that is not closed, not opened, empty, or inside another; says which.
    """
    plain: list[str] = []
    marks: list[Mark] = []
    opened: tuple[str, int] | None = None
    place = 0
    while place < len(text):
        sign = text[place]
        if sign == "\\" and text[place + 1 : place + 2] in _SPECIAL:
            place += 1
            plain.append(text[place])
        elif sign in _OPENS:
            if opened:
                raise ValueError(f"{sign!r} inside {opened[0]!r}")
            opened = sign, len(plain)
        elif sign in _CLOSES:
            if opened is None or opened[0] != _CLOSES[sign]:
                raise ValueError(f"{sign!r} closes nothing")
            if opened[1] == len(plain):
                raise ValueError("brackets around nothing")
            marks.append(Mark(opened[1], len(plain), _OPENS[opened[0]]))
            opened = None
        else:
            plain.append(sign)
        place += 1
    if opened:
        raise ValueError(f"{opened[0]!r} is not closed")
    return "".join(plain), tuple(marks)


def render(caption: str, marks: Iterable[Mark]) -> str:
    """The text with brackets; the opposite of `parse`.

    Line breaks become spaces, since a line holds one caption.

    Raises:
      ValueError: marks that overlap, are empty or lie outside the caption.
    """
    signs: dict[int, str] = {}
    for mark in check(caption, marks):
        left, right = _SIGNS[mark.verdict]
        signs[mark.start] = signs.get(mark.start, "") + left  # where marks touch, the first closes before
        signs[mark.end] = right
    text = signs.get(len(caption), "")
    for place in range(len(caption) - 1, -1, -1):  # from the end: a backslash depends on what follows it
        letter = " " if caption[place] in "\r\n" else caption[place]
        if letter in "{}[]" or (letter == "\\" and text[:1] in _SPECIAL):
            letter = f"\\{letter}"
        text = signs.get(place, "") + letter + text
    return text


def check(caption: str, marks: Iterable[Mark]) -> tuple[Mark, ...]:
    """The marks in the order of the caption.

    Raises:
      ValueError: marks that overlap, are empty or lie outside the caption; says which.
    """
    ordered = tuple(sorted(marks))
    end = 0
    for mark in ordered:
        if mark.verdict not in _SIGNS:
            raise ValueError(f"verdict {mark.verdict!r}")
        if not 0 <= mark.start < mark.end <= len(caption):
            raise ValueError(f"a mark from {mark.start} to {mark.end} in a caption of {len(caption)}")
        if mark.start < end:
            raise ValueError(f"overlapping marks at {mark.start}")
        end = mark.end
    return ordered


def words(caption: str) -> list[tuple[int, int]]:
    """Where the words of a caption begin and end, without the punctuation around them."""
    return [match.span() for match in _WORD.finditer(caption)]
