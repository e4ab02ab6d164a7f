"""Whether a caption is English, as far as its function words tell; offline, by spaCy's own word lists."""

import re
from functools import cache
from importlib import import_module

_LANGUAGES = ("de", "fr", "es", "it", "pt", "nl", "sv", "da", "pl", "tr", "id", "ro", "fi", "hu", "vi")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏ]")
_FEWEST = 2  # function words of another language before it is believed


def is_english(text: str) -> bool:
    """False where the letters are mostly not Latin, or another language has more of its function words in it.

    A text without function words ("two dogs running") counts as English: it may be, and the tagger will find
    nothing in it if it is not.
    """
    words = _WORD.findall(text.lower())
    letters = [letter for word in words for letter in word]
    if 2 * sum(1 for letter in letters if _LATIN.match(letter)) < len(letters):
        return False
    english, others = _function_words()
    ours = sum(word in english for word in words)
    theirs = max(sum(word in other for word in words) for other in others)
    return theirs < _FEWEST or ours >= theirs


@cache
def _function_words() -> tuple[frozenset[str], tuple[frozenset[str], ...]]:
    """English function words, and those of other languages that are no English words of that kind."""
    english = frozenset(_stop_words("en")) | {"s", "t"}
    return english, tuple(frozenset(_stop_words(code)) - english for code in _LANGUAGES)


def _stop_words(language: str) -> set[str]:
    return import_module(f"spacy.lang.{language}.stop_words").STOP_WORDS
