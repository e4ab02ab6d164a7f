"""Chromium over its debugging pipe: pages, keys and sizes as a reader has them, without a driver."""

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 120.0
"""Seconds to wait for an answer; a busy machine takes its time."""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
_KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "ArrowLeft": (37, ""),
    "ArrowRight": (39, ""),
}


class Browser:
    """One tab of a running Chromium."""

    def __init__(self, write_to: int, read_from: int, downloads: Path):
        self._write_to, self._read_from, self._left = write_to, read_from, b""
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self._events: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        self.call("Page.enable")
        self.complaints: list[str] = []
        self.call("Log.enable")
        self.call("Runtime.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command of the DevTools protocol and returns its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        os.write(self._write_to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, page: Path, width: int = 1280, *, dark: bool = False, scripts: bool = True) -> None:
        """Loads a page anew, on a screen so many pixels wide."""
        self._events, self.complaints = [], []
        phone = width < 600
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._note(self._next())

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Presses keys, by name or capital letter, one after the other in the element that has the focus."""
        for key in keys:
            code, text = _KEYS.get(key) or (ord(key), key)
            named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **named)
            self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def type(self, text: str) -> None:
        """Writes into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def point(self, selector: str) -> None:
        """Moves the pointer over an element, which is scrolled into view."""
        self.value(
            f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', behavior: 'instant'}})"
        )
        x, y = self.value(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])(document.querySelector({selector!r})"
            ".getBoundingClientRect())"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event.get("method", ""))
        if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(event["params"])[:500])

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read_from], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._read_from, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("Chromium says nothing")
            self._left += chunk
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Starts Chromium with its profile and downloads in a folder, and ends it."""
    assert BROWSER is not None
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    command = [BROWSER, *_FLAGS, f"--user-data-dir={folder / 'profile'}"]
    started = subprocess.Popen(  # the pipe has to be its descriptors 3 and 4
        ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "browser", *command],
        pass_fds=(theirs_in, theirs_out),
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        (folder / "downloads").mkdir()
        yield Browser(ours_out, ours_in, folder / "downloads")
    finally:
        os.close(ours_out)
        os.close(ours_in)
        started.terminate()
        started.wait(timeout=60)
