"""Records of unfinished work: appended as they come, found again after an interruption."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from sare_jax import files


class Journal:
    """A JSON-lines file to which whole batches of records are appended.

    A process that is killed leaves the batches written so far; a torn last batch is cut off on opening. The
    records lie on the disk alone: iterating reads them anew, one batch after the other; `len` is the number
    of batches.
    """

    def __init__(self, path: Path):
        """Opens the journal at `path`; none there is an empty one."""
        self._path = Path(path)
        self._length, whole = 0, 0
        if self._path.exists():
            with self._path.open("rb") as stream:
                for line in stream:
                    if _parsed(line) is None:
                        break
                    self._length += 1
                    whole += len(line)
            with self._path.open("r+b") as stream:
                stream.truncate(whole)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[dict]]:
        if self._length:
            with self._path.open("rb") as stream:
                yield from map(json.loads, stream)

    @property
    def batches(self) -> list[list[dict]]:
        """All batches at once."""
        return list(self)

    def append(self, batch: Iterable[dict]) -> None:
        """Adds a batch; it is with the operating system when this returns."""
        line = json.dumps(list(batch), ensure_ascii=False, allow_nan=False) + "\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as stream:
            stream.write(line.encode())
        self._length += 1


def open_scratch(folder: Path, key: str) -> Path:
    """Gives the folder for unfinished work, emptied unless it was left by a run with the same `key`."""
    mark = folder / "key"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != key:
        files.remove(folder)
        files.write_text(mark, key)
    return folder


def _parsed(line: bytes) -> list[dict] | None:
    """The batch in a line; None where the line was not written to its end."""
    if not line.endswith(b"\n"):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None
