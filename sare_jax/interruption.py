"""Ctrl-C and SIGTERM end a command, wherever in it they come.

Python raises their error at the next line of Python that the main thread runs. Where that is a callback of
the garbage collector (JAX has one, often the first line after a long computation) or a destructor, Python
prints the error and drops it, and the command would go on as if nobody had asked it to end. So what was
dropped is sent again.
"""

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

AGAIN = 0.05
"""Seconds until a dropped signal is sent again, by when its callback should have ended."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Has SIGTERM raise `Terminated`, unless it has another answer already; neither signal is dropped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _sigterm_raises(), _dropped_are_sent_again():
        yield


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
def _sigterm_raises() -> Iterator[None]:
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: object) -> None:
    raise Terminated


@contextmanager
def _dropped_are_sent_again() -> Iterator[None]:
    # The one queue that a callback of the garbage collector may write to; no thread can be begun there.
    dropped: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    ended = threading.Event()
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        dropped.put(signal.SIGTERM if issubclass(unraisable.exc_type, Terminated) else signal.SIGINT)

    threading.Thread(target=_send_again, args=(dropped, ended), daemon=True).start()
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        ended.set()
        dropped.put(None)


def _send_again(dropped: "queue.SimpleQueue[int | None]", ended: threading.Event) -> None:
    while (number := dropped.get()) is not None:
        time.sleep(AGAIN)
        if not ended.is_set():
            os.kill(os.getpid(), number)
