"""What cannot be written, because a disk is full or may not be written to, as one line with the way out."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sare_jax.errors import UserError

GOES_ON = "the same command goes on from here"

_FULL = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EFBIG: "raise the limit (ulimit -f), or take a file system that holds larger files",
    errno.EROFS: "choose a folder that can be written to",
}
_BARRED = {
    errno.EACCES: "give this user the right to it, or choose another folder",
    errno.EPERM: "give this user the right to it, or choose another folder",
    errno.EIO: "the disk may be failing; choose another one",
    errno.ENOTDIR: "a file is where a folder should be; choose another name",
    errno.EEXIST: "a file is where a folder should be; choose another name",
    errno.EISDIR: "a folder is where a file should be; choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class WriteError(UserError):
    """A file or folder that cannot be written; names it, the system's reason and the way out."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an error of writing inside the block into a `WriteError` that names `path`.

    A full disk or a read-only file system is one whoever reports it: libraries that write files themselves,
    such as Orbax and safetensors, raise types of their own with the system's words in their text. Any other
    error of the system is one where it says that it concerns `path`, or names no file.

    Args:
      path: the file or folder that is being written.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = _number(error)
        if number in _FULL or (number in _BARRED and _concerns(error, Path(path))):
            raise WriteError(told(str(path), number)) from error
        raise


def of_system(error: OSError) -> WriteError | None:
    """The one line for an error that nobody has placed yet, as far as it is one of a disk; else None."""
    if error.errno in _FULL or (error.errno in _BARRED and error.filename):
        return WriteError(told(str(error.filename or "a file"), error.errno))
    return None


def told(what: str, number: int) -> str:
    """Name, reason and way out for one of the system's error numbers."""
    reason, way_out = os.strerror(number), (_FULL | _BARRED)[number]
    return f"{what}: cannot be written ({reason}); {way_out}. What was finished is kept, {GOES_ON}"


def _number(error: Exception) -> int:
    """The system's number of an error; found by its words where a library has made its own of it; else 0."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    return next((number for number in _FULL if os.strerror(number) in text), 0)


def _concerns(error: Exception, path: Path) -> bool:
    name = getattr(error, "filename", None)
    if not isinstance(name, str | bytes | os.PathLike):
        return True
    there, here = Path(os.fsdecode(name)).absolute(), path.absolute()
    return there.is_relative_to(here.parent) or here.is_relative_to(there)
