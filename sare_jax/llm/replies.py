"""What every reader of replies needs: the part that is an answer, and a way to say that there is none."""

import re

_OPENED = re.compile(r"<(?:think|thinking|reasoning|thought)>", re.I)
_CLOSED = re.compile(r"</(?:think|thinking|reasoning|thought)>", re.I)


class UnreadableError(Exception):
    """A reply that gives no value; the text is the reason, one of a small set that can be counted."""


def after_reasoning(reply: str) -> str:
    """What follows the last closing tag of a reply that thinks aloud; the whole reply where it does not.

    Raises:
      UnreadableError: the reasoning does not end ("unfinished reasoning").
    """
    closed = list(_CLOSED.finditer(reply))
    text = reply[closed[-1].end() :] if closed else reply
    if _OPENED.search(text):
        raise UnreadableError("unfinished reasoning")
    return text.strip()
