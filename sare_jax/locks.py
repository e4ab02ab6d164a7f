"""One process at a time: a lock that names its holder, and that a killed holder does not keep.

Two locks in one. The operating system's (`flock`) ends with its process, also where that is killed, so on one
machine it alone decides. On a file system that machines share it may hold on each machine by itself; so the
file names process and machine too, and the holder touches it from time to time: another machine's lock counts
until it has not been touched for a while.
"""

import contextlib
import fcntl
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import logging

from sare_jax.errors import UserError
from sare_jax.files import is_running, parse_json
from sare_jax.unwritable import writing

TOUCHED = 20.0
"""Seconds between two signs of life."""
FORGOTTEN = 6 * TOUCHED
"""Seconds without one, after which another machine's lock is nobody's."""


@contextmanager
def locked(file: Path, what: Path) -> Iterator[None]:
    """Holds the lock `file` while the block runs.

    Args:
      file: is made, and removed at the end.
      what: the folder that it guards, for the error.

    Raises:
      UserError: another process holds it; names process and machine.
      WriteError: the folder cannot be written to.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _taken(file, what)
    ended = threading.Event()
    threading.Thread(target=_touch, args=(file, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        file.unlink(missing_ok=True)  # before it is let go, or somebody else's would be removed
        os.close(descriptor)


@contextmanager
def writing_into(path: Path | str) -> Iterator[None]:
    """Holds the lock of the workdir, if any, in which `path` is to be written, while the block runs.

    Raises:
      UserError: a run is at work there.
    """
    path = Path(path).absolute()
    workdir = next((folder for folder in (path, *path.parents) if _is_workdir(folder)), None)
    with locked(workdir / ".lock", workdir) if workdir else contextlib.nullcontext():
        yield


def _is_workdir(folder: Path) -> bool:
    return (folder / "config.json").is_file() and (folder / "records").is_dir()


def _taken(file: Path, what: Path) -> int:
    """The open lock file, locked and with this process's name in it."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            free = _flocked(descriptor)
            if free and not _is(descriptor, file):  # its holder removed it meanwhile
                os.close(descriptor)
                continue
            holder = _holder(descriptor)
            if free is False or (holder and _lives(holder, file, asked_system=free is not None)):
                raise UserError(_refusal(holder, what))
            if holder:
                logging.warning(
                    "%s: left by process %s on %s, which is gone", file, holder["pid"], holder["host"]
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_name()).encode(), 0)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
        return descriptor


def _flocked(descriptor: int) -> bool | None:
    """Whether the system gave the lock; None on a file system that has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _name() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "boot": _boot(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _boot() -> str:
    """Names this machine since it was started; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _holder(descriptor: int) -> dict[str, Any]:
    """Who wrote the lock; empty where that cannot be read."""
    try:
        holder = parse_json(os.pread(descriptor, 4096, 0), "lock")
    except UserError:
        return {}
    kinds = {"pid": int, "host": str, "boot": str, "since": str}
    named = isinstance(holder, dict) and all(type(holder.get(key)) is kind for key, kind in kinds.items())
    return holder if named else {}


def _lives(holder: dict[str, Any], file: Path, *, asked_system: bool) -> bool:
    """Whether the holder is at work, of whom the system's lock says nothing or is not there."""
    if (holder["boot"], holder["host"]) == (_boot(), platform.node()):
        return not asked_system and holder["pid"] != os.getpid() and is_running(holder["pid"])
    if platform.node() == holder["host"]:
        return False  # this machine was started anew since
    return holder["boot"] != _boot() and _age(file) < FORGOTTEN


def _age(file: Path) -> float:
    """Seconds since the file was touched, by the clock of its file system."""
    with tempfile.TemporaryFile(dir=file.parent) as now:
        return os.fstat(now.fileno()).st_mtime - file.stat().st_mtime


def _refusal(holder: dict[str, Any], what: Path) -> str:
    who = "process {pid} on {host}, since {since}".format(**holder) if holder else "just started"
    return f"{what}: another run is at work there ({who}); wait for its end, or choose another folder"


def _touch(file: Path, ended: threading.Event) -> None:
    while not ended.wait(TOUCHED):
        with contextlib.suppress(OSError):
            os.utime(file)
