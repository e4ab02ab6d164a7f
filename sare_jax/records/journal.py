"""Records of unfinished work: appended as they come, found again after an interruption, trusted if unchanged.

A line is a JSON object with a checksum over its own number and text. So a line that was changed, repeated,
moved or lost is noticed; it and all that follow are cut off, and made again.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from absl import logging

from sare_jax import files
from sare_jax.unwritable import writing

_SUM = 16  # letters
_HEAD, _MIDDLE, _END = b'{"sum": "', b'", "value": ', b"}\n"


class Journal:
    """A JSON-lines file to which values are appended, a line each.

    A process that is killed leaves the values written so far; a torn last line is cut off on opening. The
    values lie on the disk alone: iterating reads them anew, one after the other; `len` is their number.
    """

    def __init__(self, path: Path):
        """Opens the journal at `path`; none there is an empty one."""
        self._path = Path(path)
        self._length, whole = 0, 0
        if self._path.is_dir():
            logging.warning("%s: is a folder, no journal; removed", self._path)
            files.remove(self._path)
        if self._path.exists():
            with self._path.open("rb") as stream:
                for line in stream:
                    if opened(line, self._length) is None:
                        if line.endswith(b"\n"):
                            logging.warning(
                                "%s: line %d changed since it was written; what follows is made again",
                                self._path,
                                self._length + 1,
                            )
                        break
                    self._length += 1
                    whole += len(line)
            with self._path.open("r+b") as stream:
                stream.truncate(whole)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        if self._length:
            with self._path.open("rb") as stream:
                for number, line in enumerate(stream):
                    yield files.parse_json(opened(line, number) or b"", f"{self._path}:{number + 1}")

    def append(self, value: Any) -> None:
        """Adds a JSON-able value; it is with the operating system when this returns.

        Raises:
          WriteError: the disk is full, or cannot be written to; what the line left is cut off on opening.
        """
        self.extend([value])

    def extend(self, values: Iterable[Any]) -> None:
        """Adds values, opening the file once; as `append`."""
        written = self._length
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as stream:
                for number, value in enumerate(values, start=self._length):
                    stream.write(sealed(value, number))
                    written = number + 1
        self._length = written


def open_scratch(folder: Path, key: str) -> Path:
    """Gives the folder for unfinished work, emptied unless it was left by a run with the same `key`."""
    mark = folder / "key"
    if not mark.is_file() or mark.read_bytes() != key.encode():
        files.remove(folder)
        files.write_text(mark, key)
    return folder


def sealed(value: Any, number: int) -> bytes:
    """A JSON-able value as the line of that number, counted from 0, with its checksum and newline."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return _HEAD + _sum(text, number) + _MIDDLE + text + _END


def opened(line: bytes, number: int) -> bytes | None:
    """The JSON text of the value that was sealed as `line`; None where the line is not as it was written."""
    start = len(_HEAD) + _SUM + len(_MIDDLE)
    text = line[start : -len(_END)]
    return text if line == _HEAD + _sum(text, number) + _MIDDLE + text + _END else None


def _sum(text: bytes, number: int) -> bytes:
    return hashlib.sha256(b"%d %s" % (number, text)).hexdigest()[:_SUM].encode()
