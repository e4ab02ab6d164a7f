"""Progress for logs: sparse lines, JSON objects, or nothing."""

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from sare_jax.progress.work import Work

SECONDS = 10.0
"""Between two lines, at least."""

_last = -SECONDS  # when the last line was written, by any display of this process


@contextmanager
def lines(work: Work) -> Iterator[None]:
    """Writes what is being done to standard error, a line every `SECONDS`."""

    def write() -> None:
        if text := work.line():
            print(text, file=sys.stderr, flush=True)

    with _every(write):
        yield


@contextmanager
def json_lines(work: Work) -> Iterator[None]:
    """Writes what is being done to standard output as JSON objects; what is printed becomes one too."""

    def write() -> None:
        if work.counts or work.task:
            write_event("progress", **_values(work))

    with redirect_stdout(_Messages(sys.stdout)), _every(write):
        yield


@contextmanager
def quiet(work: Work) -> Iterator[None]:
    """Shows nothing, and drops what is printed."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def write_event(name: str, **values: Any) -> None:
    """Writes one JSON object to standard output: the event's name, the time, and its values."""
    stream = sys.stdout.stream if isinstance(sys.stdout, _Messages) else sys.stdout
    record = {"event": name, "time": round(time.time(), 3), **values}
    print(json.dumps(record, ensure_ascii=False), file=stream, flush=True)


class _Messages(io.TextIOBase):
    """A standard output whose lines become events."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, whole):
            write_event("message", text=line)
        return len(text)


def _values(work: Work) -> dict[str, Any]:
    return {
        "stage": work.stage,
        "task": work.task,
        "work": [
            {
                "name": count.name,
                "done": count.done,
                "total": count.total,
                "unit": count.unit,
                "seconds": round(count.elapsed, 1),
                "seconds_left": None if count.left is None else round(count.left, 1),
                "waiting": count.waiting if count.is_waiting else "",
                "note": count.note,
            }
            for count in list(work.counts)
        ],
    }


@contextmanager
def _every(write: Callable[[], None]) -> Iterator[None]:
    """Calls `write` from a thread, `SECONDS` after the beginning or the last call of any such thread."""
    stop = threading.Event()
    begin = time.monotonic()

    def beat() -> None:
        global _last
        while not stop.wait(max(0.0, max(begin, _last) + SECONDS - time.monotonic())):
            _last = time.monotonic()
            write()

    thread = threading.Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
