"""The one display of a process: which kind it is, and what it shows."""

import atexit
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sare_jax.errors import UserError
from sare_jax.extensions import resolve
from sare_jax.progress.work import Count, Work

DISPLAYS = {
    "panel": "sare_jax.progress.panel:panel",
    "lines": "sare_jax.progress.lines:lines",
    "json": "sare_jax.progress.lines:json_lines",
    "quiet": "sare_jax.progress.lines:quiet",
}
"""Kind of display → `module:name` of a function from the work to a context in which it is shown."""
AUTO = "auto"

Display = Callable[[Work], AbstractContextManager[Any]]

_lock = threading.RLock()
_work = Work()
_kind = AUTO
_open = 0  # how many stages and counts are open; the display is there while any is
_running: AbstractContextManager[Any] | None = None


def show_as(kind: str) -> None:
    """Chooses how progress is shown from now on.

    Args:
      kind: `auto` or a key of `DISPLAYS`.

    Raises:
      UserError: there is no such kind.
    """
    global _kind
    if kind != AUTO and kind not in DISPLAYS:
        raise UserError(f"progress: {kind!r} is not one of auto, {', '.join(DISPLAYS)}")
    _kind = kind


def event(name: str, **values: Any) -> None:
    """Writes a JSON object where progress is shown as `json`; else nothing."""
    if _kind == "json":
        from sare_jax.progress.lines import write_event

        write_event(name, **values)


def say(name: str, text: str, **values: Any) -> None:
    """Prints a line for readers; where progress is shown as `json`, the event `name` with its values."""
    if _kind == "json":
        event(name, **values)
    else:
        print(text, flush=True)


def result(text: str, **values: Any) -> None:
    """Prints what a command was called for; where progress is shown as `json`, the event `result`.

    Args:
      text: lines for a reader.
      values: the same for a program.
    """
    if _kind == "json":
        event("result", **values)
    else:
        print(text, flush=True)


@contextmanager
def stage(name: str, place: str = "") -> Iterator[None]:
    """Says that a stage of the road is at work.

    Args:
      name: of the stage.
      place: among the others, such as `3 of 8`.
    """
    with showing():
        before, _work.stage = _work.stage, f"{name} {place}".rstrip()
        event("stage", stage=name)
        try:
            yield
        finally:
            _work.stage = before


@contextmanager
def task(name: str) -> Iterator[None]:
    """Says that a task of a stage is at work."""
    with showing():
        before, _work.task = (_work.task, _work.start), name
        _work.start = time.monotonic()
        try:
            yield
        finally:
            _work.task, _work.start = before


def open_count(count: Count) -> None:
    """Shows a count, inside of those that are open."""
    with _lock:
        _enter()
        _work.counts.append(count)


def close_count(count: Count) -> None:
    """Stops showing a count; nothing where it was closed before."""
    with _lock:
        if count in _work.counts:
            _work.counts.remove(count)
            _leave()


@contextmanager
def showing() -> Iterator[None]:
    """Keeps the display open, over several stages or counts."""
    with _lock:
        _enter()
        before = len(_work.counts)
    try:
        yield
    finally:
        with _lock:
            _close_all(before)
            _leave()


def _close_all(but: int = 0) -> None:
    """Closes the counts inside of the first few: an error may have left a generator's open."""
    for count in _work.counts[but:]:
        close_count(count)


atexit.register(_close_all)  # a terminal gets its cursor back


def _enter() -> None:
    global _open, _running
    _open += 1
    if _open == 1:
        kind = _kind if _kind != AUTO else ("panel" if sys.stderr.isatty() else "lines")
        display: Display = resolve(kind, DISPLAYS, "progress")
        _running = display(_work)
        _running.__enter__()


def _leave() -> None:
    global _open, _running
    _open -= 1
    if _open == 0 and _running is not None:
        running, _running = _running, None
        running.__exit__(None, None, None)
