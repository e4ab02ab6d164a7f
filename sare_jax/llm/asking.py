"""Asks a language model many questions at the same time, and keeps each reply on disk.

A second run asks only for what is missing. The caller says how a reply is read. A reply that is still
unreadable after the allowed tries is a failure with a reason, and the run goes on.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sare_jax import progress
from sare_jax.errors import UserError
from sare_jax.files import hash_value, read_json, write_json
from sare_jax.llm.client import Client, Endpoint, FailedError, Patience, Reply
from sare_jax.llm.replies import UnreadableError

Value = TypeVar("Value")

GIVE_UP = 20
"""Number of failures in a row that ends the run, since more questions would fail, too."""


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """The outcome of one question: a value, or the reason why there is none.

    Attributes:
      value: JSON-able, as the reader gives it; None where there is none.
      reason: why there is no value, in a few words that can be counted; None where there is one.
      reply: text of the model's last reply; None where none came.
      kept: whether the reply was read from disk, not asked for now.
      model: name of the model as its reply states it; None where it states none.
      prompt_tokens: tokens sent, over all tries.
      completion_tokens: tokens received, over all tries.
    """

    value: Value | None
    reason: str | None = None
    reply: str | None = None
    kept: bool = False
    model: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Asker(Generic[Value]):
    """Asks an endpoint, keeps its replies on disk, and reads them.

    Attributes:
      endpoint: address, model and limits of the requests.
      folder: folder that keeps the replies, one file a question, named by a hash of address and request.
      read: from a reply's text to its JSON-able value; raises `UnreadableError`.
      parallel: number of questions that are asked at the same time.
    """

    endpoint: Endpoint
    folder: Path
    read: Callable[[str], Value]
    parallel: int = 8

    def kept(self, prompt: str) -> Answer[Value] | None:
        """The answer from a reply on disk; None where no whole and readable reply is there."""
        try:
            entry = read_json(self._place(prompt))
            reply, usage, model = entry["reply"], entry["usage"], entry["model"]
            tokens = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
            if entry["value"] is None or not isinstance(reply, str) or not isinstance(model, str | None):
                return None
            reply = self.endpoint.without_key(reply)
            return Answer(self._read(reply), None, reply, True, model, *tokens)
        except (UserError, KeyError, TypeError, ValueError, OverflowError, UnreadableError):
            return None

    def ask_all(self, prompts: Sequence[str], name: str = "judge") -> list[Answer[Value]]:
        """An answer for each question; equal questions are put once.

        Raises:
          UserError: an error that every question would meet (`Client.ask`), or `GIVE_UP` failures in a row.
        """
        asked = list(dict.fromkeys(prompts))
        answers = {prompt: answer for prompt in asked if (answer := self.kept(prompt))}
        open_ = [prompt for prompt in asked if prompt not in answers]
        if open_:
            with progress.bar(len(asked), name, done=len(answers), unit="caption") as bar:
                answers |= zip(open_, _finish(self._ask_open(open_, bar)), strict=True)
        return [answers[prompt] for prompt in prompts]

    def _place(self, prompt: str) -> Path:
        name = hash_value({"url": self.endpoint.url, "request": self.endpoint.request(prompt)})
        return self.folder / name[:2] / f"{name}.json"

    async def _ask_open(self, prompts: list[str], bar: progress.Bar) -> list[Answer[Value]]:
        gate, failed, in_a_row = asyncio.Semaphore(self.parallel), 0, 0

        async def one(client: Client, prompt: str) -> Answer[Value]:
            nonlocal failed, in_a_row
            async with gate:
                answer = await self._ask_one(client, prompt)
            failed += answer.reason is not None
            in_a_row = in_a_row + 1 if answer.reason else 0
            if in_a_row >= GIVE_UP:
                raise UserError(
                    f"{self.endpoint.base_url}: {GIVE_UP} questions in a row failed, the last with: "
                    f"{answer.reason}; what was answered is kept"
                )
            bar.note(f"failed {failed}, waits {client.waited}")
            bar.update(1)
            return answer

        async with Client(self.endpoint, self.parallel) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(client, prompt)) for prompt in prompts]
            except* UserError as errors:
                raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _ask_one(self, client: Client, prompt: str) -> Answer[Value]:
        """Asks until a reply can be read, as often as the endpoint allows; a readable one is kept on disk."""
        reply, reason, paid = None, "", [0, 0]
        patience = Patience(self.endpoint.deadline)
        for _ in range(self.endpoint.tries):
            if patience.left <= 0:
                break
            try:
                reply = await client.ask(prompt, patience)
                paid = [paid[0] + reply.prompt_tokens, paid[1] + reply.completion_tokens]
                value = self._value(reply)
            except FailedError as error:
                reason = str(error)
                if not error.passing:
                    break
            except UnreadableError as error:
                reason = str(error)
            else:
                self._keep(prompt, reply, value)
                return Answer(value, None, reply.text, False, reply.model, *paid)
        text, model = (reply.text, reply.model) if reply else (None, None)
        return Answer(None, reason, text, False, model, *paid)

    def _value(self, reply: Reply) -> Value:
        if reply.finish_reason == "length":
            raise UnreadableError("cut off")
        return self._read(reply.text)

    def _read(self, text: str) -> Value:
        """The value of a reply's text, whatever a model may have written there."""
        try:
            value = self.read(text)
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # or it could not be kept
        except (RecursionError, MemoryError, OverflowError, ValueError):
            raise UnreadableError("nothing that a program can hold") from None
        return value

    def _keep(self, prompt: str, reply: Reply, value: Value) -> None:
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
        entry: dict[str, Any] = {
            "url": self.endpoint.url,
            "request": self.endpoint.request(prompt),
            "model": reply.model,
            "reply": reply.text,
            "usage": usage,
            "value": value,
        }
        write_json(self._place(prompt), entry)


def _finish(work: Coroutine[Any, Any, list[Answer[Value]]]) -> list[Answer[Value]]:
    """Runs a coroutine to its end, also where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as aside:
        return aside.submit(asyncio.run, work).result()
