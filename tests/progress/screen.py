"""A terminal of fixed size: a command's output in a pty, and what a reader sees of it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b[78=>]|\r|\n|\x1b\][^\x07]*\x07")


class Screen:
    """Rows of text and a cursor; colours are dropped."""

    def __init__(self, width: int = 100):
        self.width = width
        self.rows: list[str] = [""]
        self.hidden = False
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Writes text with its control sequences."""
        last = 0
        for match in _CONTROL.finditer(text):
            self._put(text[last : match.start()])
            self._obey(match)
            last = match.end()
        self._put(text[last:])

    @property
    def text(self) -> str:
        """What is on the screen, without blanks at the ends of lines."""
        return "\n".join(row.rstrip() for row in self.rows).rstrip()

    def _put(self, text: str) -> None:
        for character in text:
            if self._column == self.width:
                self._row, self._column = self._row + 1, 0
            self._reach()
            row = self.rows[self._row].ljust(self._column)
            self.rows[self._row] = row[: self._column] + character + row[self._column + 1 :]
            self._column += 1

    def _obey(self, match: re.Match[str]) -> None:
        number = int(match[1]) if match[1] and match[1].isdecimal() else 1
        if match[0] == "\r":
            self._column = 0
        elif match[0] == "\n":
            self._row += 1
            self._reach()
        elif match[2] == "A":
            self._row = max(0, self._row - number)
        elif match[2] == "K":
            self.rows[self._row] = "" if match[1] == "2" else self.rows[self._row][: self._column]
        elif match[0] in ("\x1b[?25l", "\x1b[?25h"):
            self.hidden = match[0].endswith("l")
        elif match[2] not in ("m", None):
            raise NotImplementedError(repr(match[0]))

    def _reach(self) -> None:
        self.rows += [""] * (self._row + 1 - len(self.rows))


def on_terminal(script: str, *, rows: int = 40, columns: int = 100) -> tuple[Screen, list[str], int]:
    """Runs Python in a terminal.

    Args:
      script: Python source.
      rows: lines of the terminal.
      columns: characters of a line.

    Returns:
      The screen at the end, every state that a reader could have seen, and the exit status.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST  # line ends arrive as they were written
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
    )
    os.close(theirs)
    screen, seen = Screen(columns), []
    while data := _read(ours):
        screen.feed(data.replace("\n", "\r\n"))
        seen.append(screen.text)
    os.close(ours)
    return screen, seen, process.wait()


def _read(descriptor: int) -> str:
    """What has arrived, with no character cut in two; empty at the end."""
    data = b""
    while True:
        try:
            part = os.read(descriptor, 1 << 16)
        except OSError:  # how Linux says that nobody writes any more
            part = b""
        data += part
        try:
            return data.decode()
        except UnicodeDecodeError:
            if not part:
                raise
