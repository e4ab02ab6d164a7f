"""Hashes of image files' contents, so that a picture that was exchanged under its name is noticed.

A file is read once. After that its size and its times of change are looked at, which takes a second or two
for 80,000 files, and it is read again where these are other than they were.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import logging

from sare_jax import files
from sare_jax.data.images import THREADS
from sare_jax.errors import UserError
from sare_jax.progress import track
from sare_jax.schema import checked

_YOUNG = 2 * 10**9  # nanoseconds in which a file may change again without a new time of change

_State = tuple[int, int, int]
_Known = tuple[int, int, int, str]


class Contents:
    """Hashes of files, kept from one process to the next in a file that may be deleted at any time."""

    def __init__(self, kept: Path):
        """Reads nothing yet.

        Args:
          kept: JSON file of the hashes with sizes and times.
        """
        self._kept = kept
        self._known: dict[str, _Known] | None = None
        self._hashes: dict[Path, str] = {}

    def hash(self, folder: Path, names: Iterable[str]) -> str:
        """Hash of the names and contents of some files; one that is not there counts as empty.

        What this process has looked at once is not looked at again.
        """
        paths = {name: Path(folder).absolute() / name for name in names}
        self._look([path for path in paths.values() if path not in self._hashes])
        return files.hash_value([[name, self._hashes[path]] for name, path in paths.items()])

    def _look(self, paths: list[Path]) -> None:
        if not paths:
            return
        known = self._known = _read(self._kept) if self._known is None else self._known
        fresh: dict[Path, _State] = {}
        for path in paths:
            state, before = _state(path), known.get(str(path))
            if state is None:
                self._hashes[path] = ""
            elif before and before[:3] == state:
                self._hashes[path] = before[3]
            else:
                fresh[path] = state
        if not fresh:
            return
        with ThreadPoolExecutor(THREADS) as pool:
            hashes = track(pool.map(_hash, fresh), "hash images", total=len(fresh), unit="image")
            self._hashes |= dict(zip(fresh, hashes, strict=True))
        old = time.time_ns() - _YOUNG
        known |= {str(path): (*state, self._hashes[path]) for path, state in fresh.items() if state[2] < old}
        files.write_json(self._kept, files.sealed({"files": known}))


def _state(path: Path) -> _State | None:
    """Size and times of change; the second one changes also where the first is set back."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # not there, or a name that no file can have
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash(path: Path) -> str:
    """Of the content; empty where it cannot be read, which whoever needs it will say."""
    try:
        return files.hash_file(path)
    except OSError:
        return ""


def _read(kept: Path) -> dict[str, _Known]:
    if not kept.exists():
        return {}
    try:
        return checked(files.read_sealed(kept).get("files"), dict[str, _Known], str(kept))
    except UserError as error:
        logging.warning("%s; the images are read again", error)
        return {}
