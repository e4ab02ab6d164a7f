"""Sub-sentences: the pieces of a caption between punctuation marks (protocols 1.4)."""

import bisect
import re

# A run of marks, with the quotes and brackets that close behind it.
_MARKS = re.compile(r"[,.;!?:]+[\"'”’)\]}]*")
# What may precede a full stop without ending a sentence. Titles always stand before a name.
_TITLES = re.compile(r"mr|mrs|ms|dr|prof|st|mt|sr|jr|gen|capt|lt|sgt|nr|fig|vs|approx|e\.g|i\.e|cf", re.I)
_OTHER_SHORT_FORMS = re.compile(r"etc|inc|co|ltd|dept|ft|oz|lb|hr|min|sec|a\.m|p\.m|u\.s|u\.k", re.I)
_WORD_BEFORE = re.compile(r"[^\W_]+(?:\.[^\W_]+)*$")
_NEW_SENTENCE = re.compile(r"\s*$|\s+[\"'“‘(\[]*[A-Z]|\s*\n")


def pieces(caption: str) -> list[tuple[int, int]]:
    """Splits a caption at runs of , . ; ! ? and : that are no part of a number or of an abbreviation.

    Args:
      caption: any text; nothing in it is changed.

    Returns:
      Character spans `(start, end)`, ascending and disjoint. A piece keeps its leading white space and holds
      none of the marks that close it, so `caption[:start]` is exactly what stands before it, the marks of
      earlier pieces included. Pieces of white space alone are left out.
    """
    spans, start = [], 0
    for mark in _MARKS.finditer(caption):
        if _is_inside_word(caption, mark):
            continue
        spans.append((start, mark.start()))
        start = mark.end()
    spans.append((start, len(caption)))
    return [(start, end) for start, end in spans if caption[start:end].strip()]


def piece_around(spans: list[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """The piece that holds the characters from `start` to `end`; None where no single piece does.

    Found by position and never by text, since a caption may repeat itself and a word may be part of another.
    """
    index = bisect.bisect_right(spans, (start, float("inf"))) - 1
    if index < 0 or end > spans[index][1]:
        return None
    return spans[index]


def _is_inside_word(text: str, mark: re.Match) -> bool:
    """Whether this mark belongs to a number ("1,500", "3.5", "10:30"), a name or an abbreviation."""
    if mark.end() - mark.start() > 1:
        return False
    symbol = mark.group()
    before, after = text[mark.start() - 1 : mark.start()], text[mark.end() : mark.end() + 1]
    if before.isdigit() and after.isdigit():
        return symbol in ".,:"
    if symbol != ".":
        return False
    if before.isalnum() and after.isalnum():
        return not (before.islower() and after.isupper())  # "example.com", "U.S"; not "the dog.The cat"
    return _is_short_form(text, mark)


def _is_short_form(text: str, stop: re.Match) -> bool:
    """Whether the word before this full stop is an abbreviation that goes on with the same sentence."""
    before = _WORD_BEFORE.search(text, max(0, stop.start() - 20), stop.start())
    word, start = (before.group(), before.start()) if before else ("", stop.start())
    if _TITLES.fullmatch(word):
        return bool(text[stop.end() :].strip())
    if _NEW_SENTENCE.match(text, stop.end()):
        return len(word) == 1 and word.isupper() and _is_after_name(text, start)
    return bool(_OTHER_SHORT_FORMS.fullmatch(word)) or "." in word or (len(word) == 1 and word.isupper())


def _is_after_name(text: str, position: int) -> bool:
    """Whether the word that ends before `position` starts with a capital, as in "Harry S. Truman"."""
    words = text[:position].split()
    return bool(words) and words[-1][0].isupper()
