"""Singular forms of English nouns, offline."""

import importlib
import importlib.util
import sys
from functools import cache, lru_cache
from typing import Any


@lru_cache(maxsize=1 << 16)
def noun_lemmas(word: str) -> tuple[str, ...]:
    """The base forms of a word read as a noun.

    The word is always taken as a noun: a lemmatizer that guesses would turn "seated" into "seat", which
    CHAIR counts as a chair, and "parking" into "park", which hides the parking meter.

    Args:
      word: one word, in lower case.

    Returns:
      Base forms, the likeliest first ("leaves" has two); the word itself where none is known.
    """
    return _lemmatizer().getLemma(word, "NOUN") or (word,)


def is_english_word(word: str) -> bool:
    """Whether the dictionary of the lemmatizer has this lower-case word, in whatever form."""
    return bool(_lemmatizer().getAllLemmas(word))


@cache
def _lemmatizer() -> Any:
    """Lemminflect's lemmatizer, without the rest of its package.

    The package's `__init__` imports spaCy wherever that is installed, and spaCy imports torch: over a second
    for something that is not used here. So the package is entered below its `__init__`, and is left unloaded
    for anybody who imports it later.
    """
    if "lemminflect" in sys.modules:
        return sys.modules["lemminflect"].Lemmatizer()
    spec = importlib.util.find_spec("lemminflect")
    if spec is None:
        raise ModuleNotFoundError("No module named 'lemminflect'", name="lemminflect")
    sys.modules["lemminflect"] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module("lemminflect.core.Lemmatizer").Lemmatizer()
    finally:
        del sys.modules["lemminflect"]
