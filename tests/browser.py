"""A headless Chromium, worked by its DevTools protocol over a pipe: real key presses, clicks and pictures."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Literal

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
_SHIFT = 8
_CODES = {
    "Enter": 13,
    "Backspace": 8,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Tab": 9,
    "Escape": 27,
}


class Browser:
    """One browser with one tab; a context manager.

    Attributes:
      complaints: what the page or the browser reported as wrong since the last new tab.
    """

    def __init__(self, profile: Path, ready: str = "true"):
        """Starts it.

        Args:
          profile: folder of its own; downloads go into `downloads` there.
          ready: JavaScript expression that is true once a page can be used.
        """
        self._downloads, self._ready = profile / "downloads", ready
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # The protocol's ends are file descriptors 3 and 4 of the browser.
        script = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._numbers = itertools.count(1)
        self._rest = b""
        self._target = ""
        self.complaints: list[str] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        self._process.wait(timeout=20)

    def new_tab(self) -> None:
        """Begins anew, without what an earlier page did or complained of."""
        if self._target:
            self._call("Target.closeTarget", {"targetId": self._target}, session=None)
        self._target = self._call("Target.createTarget", {"url": "about:blank"}, session=None)["targetId"]
        attached = {"targetId": self._target, "flatten": True}
        self._session = self._call("Target.attachToTarget", attached, session=None)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self._call("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(self._downloads)})
        self.complaints.clear()

    def open(
        self,
        address: str,
        width: int = 1280,
        height: int = 900,
        *,
        scheme: Literal["light", "dark"] = "light",
        scripts: Literal["on", "off"] = "on",
    ) -> None:
        """Opens a page in a window of this size and waits until it can be used."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", {"features": features})
        self._call("Emulation.setScriptExecutionDisabled", {"value": scripts == "off"})
        self._call("Page.navigate", {"url": address})
        self.wait(f"document.readyState === 'complete' && {self._ready}")

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression."""
        found = self._call(
            "Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True}
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 10.0) -> None:
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(script):
                return
            time.sleep(0.02)
        raise AssertionError(f"never true: {script}\n{self.run('document.body.innerText')}")

    def press(self, *keys: str, shift: bool = False) -> None:
        """Presses keys, one after the other."""
        for key in keys:
            code = _CODES.get(key) or ord(key.upper())
            event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": _SHIFT * shift}
            text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
            self._call("Input.dispatchKeyEvent", {"type": "keyDown"} | event | text)
            self._call("Input.dispatchKeyEvent", {"type": "keyUp"} | event)

    def click(self, script: str, *, shift: bool = False) -> None:
        """Clicks the middle of the element that a JavaScript expression names."""
        place = f"(() => {{ const e = {script}; e.scrollIntoView({{block: 'nearest'}});"
        place += "const b = e.getClientRects()[0]; return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        x, y = self.run(place)
        event = {"x": x, "y": y, "button": "left", "clickCount": 1, "modifiers": _SHIFT * shift}
        self._call("Input.dispatchMouseEvent", {"type": "mousePressed"} | event)
        self._call("Input.dispatchMouseEvent", {"type": "mouseReleased"} | event)

    def type(self, text: str) -> None:
        """Writes into the field that has the focus."""
        self._call("Input.insertText", {"text": text})

    def point(self, selector: str) -> None:
        """Moves the pointer over an element, which is scrolled into view."""
        place = f"(() => {{ const e = document.querySelector({selector!r});"
        place += "e.scrollIntoView({block: 'center', behavior: 'instant'});"
        place += "const b = e.getBoundingClientRect();"
        x, y = self.run(place + "return [b.x + b.width / 2, b.y + b.height / 2]; })()")
        self._call("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})

    def picture(self, path: Path) -> None:
        """Saves what the window shows."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", {"format": "png"})["data"]))

    def _call(self, method: str, parameters: dict | None = None, session: str | None = "page") -> dict:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters or {}}
        if session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            if answer.get("method") == "Log.entryAdded":
                self.complaints.append(answer["params"]["entry"]["text"])
            if answer.get("method") == "Page.javascriptDialogOpening":
                raise AssertionError(f"the page asks: {answer['params']}")
            if answer.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(str(answer["params"]["exceptionDetails"]))

    def _read(self) -> dict:
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], 20)[0]:
                raise AssertionError("the browser does not answer")
            block = os.read(self._from, 1 << 16)
            if not block:
                raise AssertionError("the browser has ended")
            self._rest += block
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
