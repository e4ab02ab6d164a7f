"""Keeps a key out of what is printed and kept, though an endpoint echoes it cut short or spread out."""

from itertools import groupby

SHARED = 8
"""Letters and digits in a row that a text may not share with a key."""


def without_key(text: str, key: str) -> str:
    """A text whose parts that could be of the key are an ellipsis each.

    Only letters and digits are compared, so blanks, line breaks or signs between them hide nothing, whatever
    their case. Of a key with fewer than `SHARED` of them, the whole counts.
    """
    secret = "".join(_plain(sign) for sign in key)
    length = min(SHARED, len(secret))
    if not length:
        return text
    parts = {secret[start : start + length] for start in range(len(secret) - length + 1)}
    places = [place for place, sign in enumerate(text) if _plain(sign)]
    shown = "".join(_plain(text[place]) for place in places)
    blank = set[int]()
    for start in range(len(shown) - length + 1):
        if shown[start : start + length] in parts:
            blank.update(range(places[start], places[start + length - 1] + 1))
    runs = groupby(enumerate(text), key=lambda numbered: numbered[0] in blank)
    return "".join("…" if hidden else "".join(sign for _, sign in run) for hidden, run in runs)


def _plain(sign: str) -> str:
    """A letter or digit of ASCII in small; nothing for any other sign, as no key has one that matters."""
    return sign.lower() if sign.isascii() and sign.isalnum() else ""
