"""What is to outlast a power cut is brought onto the disk before it gets its name.

A system writes names and contents in an order of its own: after a power cut a file that was renamed a second
before may stand there empty.
"""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_THREADS = 16  # files that are synced together share what is slow, a commit of the file system's journal
_ONE_BY_ONE = 4
_NOT_OFFERED = (errno.EINVAL, errno.ENOTSUP)  # by some file systems, for folders

_synced: set[tuple[int, int, int, int]] = set()


def sync(path: Path) -> None:
    """Brings a file, or a folder with all in it, onto the disk.

    A file that this process has brought there and that has not changed since is passed over.
    """
    files = [path] if not path.is_dir() else [p for p in path.rglob("*") if not p.is_symlink()]
    fresh = [file for file in files if _identity(file.stat()) not in _synced]
    if len(fresh) > _ONE_BY_ONE:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(_sync, fresh))
    else:
        for file in fresh:
            _sync(file)
    if path.is_dir():
        sync_names(path)


def sync_names(folder: Path) -> None:
    """Brings the names in a folder onto the disk."""
    _sync(folder)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it where they are missing; their names are on the disk then."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for part in reversed(missing):
        sync_names(part.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
    finally:
        os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        _synced.add(_identity(status))


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
