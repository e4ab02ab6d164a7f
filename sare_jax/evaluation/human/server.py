"""The annotation page's server. It serves this machine only, and no files of it but the sampled images.

It listens on the loopback address. A page of another site that the annotator has open can still send requests
there, so requests have to name this server as their host, and changes have to come from its own page.
"""

import contextlib
import json
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sare_jax.data.images import ImageError, find_image
from sare_jax.errors import UserError
from sare_jax.evaluation.human.audit import IMAGE_TYPES, Audit, StaleError
from sare_jax.files import parse_json
from sare_jax.records.brackets import Mark
from sare_jax.unwritable import WriteError

_FOLDER = Path(__file__).parent
_PAGES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_MOST_BYTES = 1 << 20
_BLOCK = 1 << 16
_PATIENCE = 1.0  # seconds without a byte of what a refused request still sends
_ONCE = ("Host", "Origin", "Content-Length", "Content-Type")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AuditServer(ThreadingHTTPServer):
    """Serves one `Audit` on 127.0.0.1."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, audit: Audit, port: int):
        """Opens the port; 0 takes a free one.

        Raises:
          UserError: the port is taken.
        """
        self.audit = audit
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no port number"
            raise UserError(f"--port {port}: cannot be opened ({reason}); 0 takes a free one") from None
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    @property
    def address(self) -> str:
        """URL of the page."""
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """Prints the traceback of an error, as usual, but not of a browser that closed its connection."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, reason: str):
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "annotation"
    sys_version = ""
    timeout = 60
    server: AuditServer

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *_: Any) -> None:
        """Prints nothing: a line for every request would hide the command's own output."""

    def _answer(self, respond: Any) -> None:
        try:
            if any(len(self.headers.get_all(name, [])) > 1 for name in _ONCE):
                raise _RefusedError(HTTPStatus.BAD_REQUEST, "a header that may stand there once stands twice")
            if self.headers.get("Host", "").lower() not in self.server.hosts:
                raise _RefusedError(HTTPStatus.FORBIDDEN, "this server answers to its own address only")
            if "Transfer-Encoding" in self.headers:
                raise _RefusedError(HTTPStatus.NOT_IMPLEMENTED, "give the body's length")
            respond()
        except _RefusedError as refusal:
            self.close_connection = True
            self._send_json({"error": str(refusal)}, refusal.status)
            self._drain()

    def _drain(self) -> None:
        """Drops what a refused request still sends; closing before it is read would lose the answer."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_PATIENCE)
            for _ in range(_MOST_BYTES // _BLOCK):
                if not self.rfile.read1(_BLOCK):
                    break

    def _get(self) -> None:
        path = self.path.partition("?")[0]
        if path in _PAGES:
            name, kind = _PAGES[path]
            self._send((_FOLDER / name).read_bytes(), kind)
        elif path == "/audit":
            self._send_json(self.server.audit.describe())
        elif path.startswith("/image/"):
            image = self.server.audit.images[self._place(path.removeprefix("/image/"))]
            if image is None:
                raise _RefusedError(HTTPStatus.NOT_FOUND, "no image")
            try:
                content = find_image(image.parent, image.name).read_bytes()  # no link meanwhile
                self._send(content, IMAGE_TYPES[image.suffix.lower()])
            except (ImageError, OSError):
                raise _RefusedError(HTTPStatus.NOT_FOUND, "the image cannot be read") from None
        else:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "nothing here")

    def _post(self) -> None:
        if self.headers.get("Origin", "").removeprefix("http://") not in self.server.hosts:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "changes come from this server's own page only")
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "JSON is expected")
        if not self.path.startswith("/caption/"):
            raise _RefusedError(HTTPStatus.NOT_FOUND, "nothing here")
        place = self._place(self.path.removeprefix("/caption/"))
        version, marks, done = _change(self._body())
        try:
            version = self.server.audit.change(place, version, marks, done)
        except StaleError:
            raise _RefusedError(HTTPStatus.CONFLICT, "changed in another window") from None
        except ValueError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
        except (WriteError, OSError) as error:  # the page keeps the marks and tries again
            raise _RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None
        self._send_json({"version": version})

    def _place(self, text: str) -> int:
        place = _number(text)
        if place is None or place >= len(self.server.audit.items):
            raise _RefusedError(HTTPStatus.NOT_FOUND, "no such caption")
        return place

    def _body(self) -> bytes:
        length = _number(self.headers.get("Content-Length", ""))
        if length is None or length > _MOST_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "no length, or too long")
        return self.rfile.read(length)

    def _send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        content = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        self._send(content, "application/json; charset=utf-8", status)

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | {"Content-Type": kind, "Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        if self.close_connection:  # else a client would send its next request into it
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def _number(text: str) -> int | None:
    """A whole number of at most nine digits; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _change(content: bytes) -> tuple[str, list[Mark], bool]:
    """The version, the marks and whether the caption is finished, from the JSON that the page sends.

    Raises:
      _RefusedError: the content is in another form.
    """
    try:
        body = parse_json(content, "change")
        version, done = body["version"], body["done"]
        marks = [Mark(start, end, verdict) for start, end, verdict in body["marks"]]
        if not all(type(n) is int for mark in marks for n in mark[:2]) or type(version) is not str:
            raise TypeError
        if type(done) is not bool or not all(isinstance(mark.verdict, str) for mark in marks):
            raise TypeError
    except (UserError, KeyError, TypeError, ValueError):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "not a change of a caption") from None
    return version, marks, done
