"""The error that a person can mend, and how it is put into one line that any terminal can show."""

import re
from typing import Any

LONGEST_PART = 200  # characters of a quoted part, or of a word
LONGEST_LINE = 4000
_TAIL = 60  # of what is cut in the middle: file names differ at their ends

# A quotation mark opens behind no letter and closes before none, so an apostrophe does neither.
_QUOTED = re.compile(r"""(?<!\w)(['"])(?:(?!\1(?!\w)).)+\1(?!\w)""", re.DOTALL)
_WORD = re.compile(rf"\S{{{LONGEST_PART + 1},}}")


class UserError(Exception):
    """Something in the user's input or set-up is wrong.

    The message is one line that names the file or key and the way out. Command lines print it without a
    traceback and exit with status 2 (see `sare_jax.command.guarded`).
    """

    def __init__(self, message: Any = ""):
        """Takes a message, whatever user's text it quotes, and makes it one line (see `one_line`)."""
        super().__init__(one_line(str(message)))


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would raise KeyboardInterrupt."""


def one_line(text: str) -> str:
    r"""A text as one line of bounded length that a terminal shows and does not obey.

    Quoted parts and words longer than 200 characters are cut in their middle. What cannot be printed, such as
    line ends, control characters and halves of characters, is written as Python spells it (`\n`, `\x1b`).
    """
    text = _cut(text, 4 * LONGEST_LINE)
    text = _QUOTED.sub(lambda match: _cut(match[0], LONGEST_PART + 2), text)
    text = _WORD.sub(lambda match: _cut(match[0], LONGEST_PART), text)
    shown = "".join(c if c == " " or c.isprintable() else repr(c)[1:-1] for c in text)
    return _cut(shown, LONGEST_LINE)


def _cut(part: str, longest: int) -> str:
    return part if len(part) <= longest else f"{part[: longest - _TAIL - 1]}…{part[-_TAIL:]}"
