"""Asks a language model behind any OpenAI-compatible endpoint one question, and again where it may help.

A question is repeated only where the error may pass by itself: a busy server, a broken connection, a reply
without an answer. A wrong key, an empty account or a wrong address ends the whole run at once, since every
other question would meet it.
"""

import asyncio
import email.utils
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from sare_jax.errors import UserError, one_line
from sare_jax.files import parse_json
from sare_jax.llm.blanking import without_key

_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_MOST_BYTES = 4 << 20
_MOST_TOKENS = 1 << 40  # of one reply; what claims more counts nothing
_FIRST_CONTACTS = 8


@dataclass(frozen=True)
class Preset:
    """A provider's address, present model and the environment variable that holds its key."""

    base_url: str
    model: str
    key_variable: str


PRESETS = {
    "deepseek": Preset("https://api.deepseek.com", "deepseek-chat", "DEEPSEEK_API_KEY"),
    "openai": Preset("https://api.openai.com/v1", "gpt-4o-2024-08-06", "OPENAI_API_KEY"),
}


@dataclass(frozen=True)
class Endpoint:
    """Address of a model, and how it is asked.

    Attributes:
      base_url: the address up to, and without, `/chat/completions`.
      model: name of the model at the endpoint.
      key: sent as a bearer token to this address alone; "" sends none.
      body: further fields of the request; None as a value leaves a field out.
      max_tokens: the most tokens of a reply.
      timeout: seconds for one whole request, however slowly its bytes arrive.
      deadline: seconds for one question with all its requests and the waits between them; not counted are
        waits that the server asks for.
      tries: how often one question is put when replies cannot be read or do not come in time.
      waits: how often one question waits for a server that is busy or out of reach.
      first_wait: seconds of the first such wait; doubled each time.
      longest_wait: the most seconds of a wait; the run ends where a server asks for more.
    """

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    body: dict[str, Any] = field(default_factory=dict)
    max_tokens: int = 1024
    timeout: float = 120.0
    deadline: float = 180.0
    tries: int = 3
    waits: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0

    @property
    def url(self) -> str:
        """The address that questions are posted to."""
        return self.base_url.rstrip("/") + "/chat/completions"

    def request(self, prompt: str) -> dict[str, Any]:
        """The body of a request: everything that the reply depends on."""
        fields = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "stream": False,
        }
        return {name: value for name, value in (fields | self.body).items() if value is not None}

    def without_key(self, text: str) -> str:
        """A text of the endpoint without what it may hold of the key (see `llm.blanking`)."""
        return without_key(text, self.key)


@dataclass(frozen=True)
class Reply:
    """A reply: its text, why it ended, the name of the model that wrote it, and the tokens paid for."""

    text: str
    finish_reason: str | None = None
    model: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class FailedError(Exception):
    """A question got no reply; the text is the reason, one of few, so that failures can be counted by it."""

    passing = False


class LateError(FailedError):
    """A reply did not come in time; asking again may help."""

    passing = True


@dataclass
class Patience:
    """The seconds that one question has left."""

    left: float

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Takes the time of the block off."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.left -= time.monotonic() - start


def read_key(variable: str, base_url: str) -> str:
    """The key in an environment variable; "" where none is named, or none is set for a local address.

    Raises:
      UserError: the variable is not set, or holds what cannot be a key. The value is never shown.
    """
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key and variable and not is_local(base_url):
        raise UserError(f"{variable} is not set; put the key of {base_url} into it (export {variable}=…)")
    if key and base_url.startswith("http:") and not is_local(base_url):
        warnings.warn(f"{base_url} is not https: the key in {variable} travels unencrypted", stacklevel=2)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{variable} holds spaces, line breaks or other characters that no key has")
    return key


def is_local(base_url: str) -> bool:
    """Whether an address is on this machine.

    Raises:
      UserError: the text is no http or https address.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"{base_url!r} is no address; give one such as {PRESETS['deepseek'].base_url}")
    return url.host in _LOCAL


class Client:
    """Puts questions to an `Endpoint`; an asynchronous context manager that holds the connections."""

    def __init__(self, endpoint: Endpoint, parallel: int):
        self.endpoint = endpoint
        self.waited = 0
        self._not_before = 0.0
        self._reached = False
        self._refused = 0
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(endpoint.timeout, connect=min(15.0, endpoint.timeout)),
            limits=httpx.Limits(max_connections=parallel),
            trust_env=not is_local(endpoint.base_url),  # no proxy between this machine and itself
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, prompt: str, patience: Patience) -> Reply:
        """The model's reply; waits and asks again where the server is busy or out of reach.

        Args:
          prompt: the question.
          patience: the time that it has; what this call takes is taken off.

        Raises:
          FailedError: no reply in time, or after all waits; its text is the reason.
          UserError: an error that every question would meet: wrong key, empty account, wrong address.
        """
        wait = self.endpoint.first_wait
        for turn in range(self.endpoint.waits + 1):
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            try:
                with patience.spent():
                    return await self._ask_once(prompt, min(self.endpoint.timeout, patience.left))
            except _LaterError as error:
                if turn == self.endpoint.waits or patience.left <= wait:
                    raise FailedError(str(error)) from None
                self.waited += 1
                await self._pause(wait, error.after, patience)
                wait = min(2 * wait, self.endpoint.longest_wait)
        raise AssertionError("unreachable")

    async def _pause(self, wait: float, asked: float | None, patience: Patience) -> None:
        if asked is None:
            with patience.spent():
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            return
        if asked > self.endpoint.longest_wait:
            raise UserError(f"{self.endpoint.base_url}: asks to wait {asked:.0f} s; {_GOES_ON} after that")
        self._not_before = max(self._not_before, time.monotonic() + asked)  # it holds for every question

    async def _ask_once(self, prompt: str, seconds: float) -> Reply:
        try:
            async with asyncio.timeout(seconds):
                status, headers, content = await self._post(self.endpoint.request(prompt))
        except (TimeoutError, httpx.TimeoutException):
            raise LateError("no reply in time") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError) as error:
            raise UserError(f"{self.endpoint.base_url}: cannot be asked ({type(error).__name__})") from None
        except httpx.RequestError as error:
            raise self._broken(error) from None
        self._reached = True
        if status == 200:
            return _read_reply(content, self.endpoint.without_key)
        if status in _BUSY:
            raise _LaterError(f"HTTP {status}", _retry_after(headers.get("retry-after")))
        detail = _error_text(content, self.endpoint.without_key)
        if status in (400, 413, 422):
            raise FailedError(f"HTTP {status}{detail}")
        raise UserError(f"{self.endpoint.url}: HTTP {status}{detail}; {_WAY_OUT.get(status, _WAY_OUT[404])}")

    def _broken(self, error: httpx.RequestError) -> Exception:
        """The error for a broken connection: one to retry, or the last where the address never answered."""
        if isinstance(error, httpx.ConnectError) and not self._reached:
            self._refused += 1
            if self._refused > _FIRST_CONTACTS:
                return UserError(f"{self.endpoint.base_url}: cannot be reached; check the address")
        return _LaterError(f"connection failed ({type(error).__name__})")

    async def _post(self, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        content = bytearray()
        async with self._http.stream("POST", self.endpoint.url, json=body) as response:
            async for block in response.aiter_bytes():
                content += block
                if len(content) > _MOST_BYTES:
                    raise _LaterError("reply too long")
            return response.status_code, response.headers, bytes(content)


_GOES_ON = "the same command goes on from here"
_WAY_OUT = {
    401: "the key is wrong or missing; put the right one into the environment variable that holds it",
    402: "the account is empty; top it up; " + _GOES_ON,
    403: "this key may not use this model",
    404: "check the address and the name of the model",
}


class _LaterError(Exception):
    """An error that may pass by itself; `after` is the number of seconds that the server asks to wait."""

    def __init__(self, reason: str, after: float | None = None):
        super().__init__(reason)
        self.after = after


def _read_reply(content: bytes, blanked: Callable[[str], str]) -> Reply:
    try:
        document = parse_json(content, "reply")
    except UserError:
        raise _LaterError("reply is no JSON") from None
    try:
        choice = document["choices"][0]
        text = choice["message"]["content"]
        refused = choice["message"].get("refusal") or choice.get("finish_reason") == "content_filter"
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _LaterError("reply without an answer") from None
    if refused:
        raise FailedError("refused")
    if isinstance(text, list):
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    usage = document.get("usage") if isinstance(document.get("usage"), dict) else {}
    return Reply(
        blanked(text) if isinstance(text, str) else "",
        reason if isinstance(reason := choice.get("finish_reason"), str) else None,
        one_line(blanked(model)) if isinstance(model := document.get("model"), str) else None,
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < _MOST_TOKENS else 0


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _error_text(content: bytes, blanked: Callable[[str], str]) -> str:
    """The error message of a JSON body, as ` (…)` on one line of about 200 characters; else empty."""
    try:
        error = parse_json(content, "reply").get("error")
    except (UserError, AttributeError):
        return ""
    text = error.get("message") if isinstance(error, dict) else error
    return f" ({one_line(' '.join(blanked(str(text)).split())[:200])})" if text else ""
