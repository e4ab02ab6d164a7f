"""What large annotation files were reduced to, kept so that the next command need not read them again.

COCO's instances_train2014.json is 448 MB, nearly all of it outlines that no metric looks at. What is kept
lies in `$XDG_CACHE_HOME/sare_jax` (`~/.cache/sare_jax`) under a name made of the file's path, size and time
of change, and may be deleted at any time. It carries the checksum of a journal's line, so a copy that was
changed is not used, but made again.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sare_jax.files import hash_value, parse_json, replacing
from sare_jax.records import journal
from sare_jax.unwritable import WriteError

SMALLEST = 16 << 20  # bytes; smaller files are read in a moment
_FORM = 2  # of what is kept; another one leaves older files unused


def folder() -> Path:
    """Where reduced files are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sare_jax"


def reduced(path: Path, reduce: Callable[[Path], Any]) -> Any:
    """`reduce(path)`, from the cache where the same file was reduced before.

    Args:
      path: a file.
      reduce: reads it, and gives a JSON-able value whose dictionaries have strings for keys.
    """
    status = path.stat()
    if status.st_size < SMALLEST:
        return reduce(path)
    identity = [_FORM, reduce.__name__, str(path.resolve()), status.st_size, status.st_mtime_ns]
    kept = folder() / f"{hash_value(identity)[:32]}.jsonl"
    with contextlib.suppress(OSError):  # not there, or not to be read
        text = journal.opened(kept.read_bytes(), 0)
        if text is not None:
            return parse_json(text, kept)
    value = reduce(path)
    with contextlib.suppress(WriteError), replacing(kept) as draft:  # else it costs the next command its time
        draft.write_bytes(journal.sealed(value, 0))
    return value
