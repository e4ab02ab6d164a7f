"""Records of unfinished work: appended as they come, found again after an interruption."""

import json
from collections.abc import Iterable
from pathlib import Path

from sare_jax import files


class Journal:
    """A JSON-lines file to which whole batches of records are appended.

    A process that is killed leaves the batches written so far; a torn last batch is cut off on opening.

    Attributes:
      batches: the batches found on opening, each a list of records.
    """

    def __init__(self, path: Path):
        """Opens the journal at `path`; none there is an empty one."""
        self._path = Path(path)
        self.batches: list[list[dict]] = []
        whole = 0
        if self._path.exists():
            with self._path.open("rb") as stream:
                for line in stream:
                    batch = _parsed(line)
                    if batch is None:
                        break
                    self.batches.append(batch)
                    whole += len(line)
            with self._path.open("r+b") as stream:
                stream.truncate(whole)

    def append(self, batch: Iterable[dict]) -> None:
        """Adds a batch; it is on the disk when this returns."""
        batch = list(batch)
        line = json.dumps(batch, ensure_ascii=False, allow_nan=False) + "\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as stream:
            stream.write(line.encode())
        self.batches.append(batch)


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
