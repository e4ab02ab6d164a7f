"""What all readers of replies share: removing a model's reasoning, and the error for unreadable replies."""

import re

_OPENED = re.compile(r"<(?:think|thinking|reasoning|thought)>", re.I)
_CLOSED = re.compile(r"</(?:think|thinking|reasoning|thought)>", re.I)


class UnreadableError(Exception):
    """A reply gives no value; the text is the reason, one of few, so that failures can be counted by it."""


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
