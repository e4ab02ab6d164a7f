"""A judge on this machine that answers, and misbehaves, as it is told."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Act = Callable[[BaseHTTPRequestHandler], None]


def document(text: str, **choice) -> dict:
    """A reply in OpenAI's form."""
    return {
        "model": "judge-1",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 7},
    }


def says(text: str, **choice) -> Act:
    return sends(200, json.dumps(document(text, **choice)))


def sends(status: int, body: str, headers: dict[str, str] | None = None) -> Act:
    """A whole response."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        content = body.encode()
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return act


def sleeps(seconds: float, then: Act) -> Act:
    def act(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        then(handler)

    return act


def drips(handler: BaseHTTPRequestHandler) -> None:
    """Keeps the connection alive with blank lines and never answers."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b"\n")
        handler.wfile.flush()
        time.sleep(0.05)


def breaks_off(handler: BaseHTTPRequestHandler) -> None:
    """Promises more than it sends, then closes."""
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


class JudgeServer:
    """Plays `acts` one after the other, then `otherwise` for ever; keeps what it was asked."""

    def __init__(self, *acts: Act, otherwise: Act | None = None):
        self.acts = list(acts)
        self.otherwise = otherwise or says("Answer: The coverage is 50")
        self.asked: list[dict] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []

    def __enter__(self) -> "JudgeServer":
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.times.append(time.monotonic())
                    outer.asked.append({"path": self.path, **body})
                    outer.keys.append(self.headers.get("Authorization"))
                    act = outer.acts.pop(0) if outer.acts else outer.otherwise
                self.close_connection = True
                with contextlib.suppress(OSError):  # the client has gone
                    act(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
