"""Ctrl-C and SIGTERM end a command, wherever in it they come.

Python raises their error at the next line of Python that the main thread runs. Where that is a callback of
the garbage collector (JAX has one, often the first line after a long computation) or a destructor, Python
prints the error and drops it, and the command would go on as if nobody had asked it to end; so it would where
a library catches every error that comes in an import. So what was dropped is sent again.
"""

import contextlib
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sare_jax.errors import Terminated

DROPPED = 0.05
"""Seconds until a dropped signal is sent again, by when its callback should have ended."""
UNANSWERED = 10.0
"""Seconds after which SIGTERM is sent again where the command is still at work: somebody caught its error."""

_Again = queue.SimpleQueue[tuple[int, float] | None]


@contextmanager
def interruptible() -> Iterator[None]:
    """Has SIGTERM raise `Terminated`, unless it has another answer already; neither signal is lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # The one kind of queue that a callback of the garbage collector may write to; no thread can begin there.
    again: _Again = queue.SimpleQueue()
    thread = threading.Thread(target=_send_again, args=(again,), daemon=True)
    thread.start()
    try:
        with _sigterm_raises(again), _noticing_the_dropped(again):
            yield
    finally:
        again.put(None)
        thread.join()  # or it might send what is to end nothing any more


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """The Ctrl-C or SIGTERM that led to an error, or is it; else None.

    A module in C whose import is interrupted, for one, raises an ImportError from it.
    """
    seen: set[int] = set()
    while error and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return error
        seen.add(id(error))
        led_to = error.__cause__ or error.__context__
        if led_to is None:
            return None
        error = led_to
    return None


@contextmanager
def _sigterm_raises(again: _Again) -> Iterator[None]:
    def terminate(*_: object) -> None:
        again.put((signal.SIGTERM, UNANSWERED))
        raise Terminated

    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _noticing_the_dropped(again: _Again) -> Iterator[None]:
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        terminated = issubclass(unraisable.exc_type, Terminated)
        again.put((signal.SIGTERM if terminated else signal.SIGINT, DROPPED))

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _send_again(again: _Again) -> None:
    """Sends this process the signals that it is told of, each when its seconds are over, until None comes."""
    due: dict[int, float] = {}
    while True:
        with contextlib.suppress(queue.Empty):
            told = again.get(timeout=max(0, min(due.values()) - time.monotonic()) if due else None)
            if told is None:
                return
            number, seconds = told
            due[number] = min(due.get(number, math.inf), time.monotonic() + seconds)
        for number in [number for number, when in due.items() if when <= time.monotonic()]:
            del due[number]
            os.kill(os.getpid(), number)
