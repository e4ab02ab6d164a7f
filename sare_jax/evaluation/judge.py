"""Many questions to a judge, side by side, each reply kept on disk: a second run asks only what is missing.

The metric that asks says how a reply is read; what stays unreadable after the allowed tries is a failure with
a reason, and the run goes on.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sare_jax import progress
from sare_jax.errors import UserError
from sare_jax.evaluation.judge_client import Client, Endpoint, FailedError, Reply
from sare_jax.evaluation.judge_parse import NoScoreError
from sare_jax.files import hash_value, read_json, write_json

GIVE_UP = 20
"""So many failures in a row, and the run ends: something is wrong that more questions will not mend."""

ReadScore = Callable[[str], float]


@dataclass(frozen=True)
class Verdict:
    """What became of one question.

    Attributes:
      score: as the reader gives it; None where there is none.
      reason: why there is none.
      reply: the judge's last text; None where none came.
      kept: whether the reply was on disk already.
      model: the name that the judge gives itself.
      prompt_tokens: of all tries.
      completion_tokens: of all tries.
    """

    score: float | None
    reason: str | None = None
    reply: str | None = None
    kept: bool = False
    model: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Judge:
    """An endpoint, a place for its replies, and a way to read them.

    Attributes:
      endpoint: whom to ask.
      folder: where replies are kept, a file a question, named by what the reply depends on.
      read: text to score; raises `NoScoreError`.
      parallel: questions on their way at the same time.
    """

    endpoint: Endpoint
    folder: Path
    read: ReadScore
    parallel: int = 8

    def kept(self, prompt: str) -> Verdict | None:
        """The verdict by a reply on disk; None where there is none, or where it was not written whole."""
        try:
            entry = read_json(self._place(prompt))
            reply, usage = entry["reply"], entry["usage"]
            tokens = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
            if not isinstance(entry["score"], int | float):
                return None
            return Verdict(self.read(reply), None, reply, True, entry["model"], *tokens)
        except (UserError, KeyError, TypeError, ValueError, NoScoreError):
            return None

    def ask_all(self, prompts: Sequence[str], name: str = "judge") -> list[Verdict]:
        """A verdict for each question; equal questions are put once.

        Raises:
          UserError: what would meet every question (see `Client.ask`), or `GIVE_UP` failures in a row.
        """
        asked = list(dict.fromkeys(prompts))
        verdicts = {prompt: found for prompt in asked if (found := self.kept(prompt))}
        open_ = [prompt for prompt in asked if prompt not in verdicts]
        if open_:
            with progress.bar(len(asked), name, done=len(verdicts), unit="caption") as bar:
                verdicts |= zip(open_, _finish(self._ask_open(open_, bar)), strict=True)
        return [verdicts[prompt] for prompt in prompts]

    def _place(self, prompt: str) -> Path:
        name = hash_value({"url": self.endpoint.url, "request": self.endpoint.request(prompt)})
        return self.folder / name[:2] / f"{name}.json"

    async def _ask_open(self, prompts: list[str], bar: tqdm) -> list[Verdict]:
        gate, failed, in_a_row = asyncio.Semaphore(self.parallel), 0, 0

        async def one(client: Client, prompt: str) -> Verdict:
            nonlocal failed, in_a_row
            async with gate:
                verdict = await self._ask_one(client, prompt)
            failed += verdict.reason is not None
            in_a_row = in_a_row + 1 if verdict.reason else 0
            if in_a_row >= GIVE_UP:
                raise UserError(
                    f"{self.endpoint.base_url}: {GIVE_UP} questions in a row failed, the last with: "
                    f"{verdict.reason}; what was answered is kept"
                )
            bar.set_postfix_str(f"failed {failed}, waits {client.waited}", refresh=False)
            bar.update(1)
            return verdict

        async with Client(self.endpoint, self.parallel) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(client, prompt)) for prompt in prompts]
            except* UserError as errors:
                raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _ask_one(self, client: Client, prompt: str) -> Verdict:
        """Asks until a reply can be read, as often as the endpoint allows; a readable one is kept on disk."""
        reply, reason, paid = None, "", [0, 0]
        for _ in range(self.endpoint.tries):
            try:
                reply = await client.ask(prompt)
                paid = [paid[0] + reply.prompt_tokens, paid[1] + reply.completion_tokens]
                score = self._score(reply)
            except FailedError as error:
                reason = str(error)
                if not error.passing:
                    break
            except NoScoreError as error:
                reason = str(error)
            else:
                self._keep(prompt, reply, score)
                return Verdict(score, None, reply.text, False, reply.model, *paid)
        text, model = (reply.text, reply.model) if reply else (None, None)
        return Verdict(None, reason, text, False, model, *paid)

    def _score(self, reply: Reply) -> float:
        if reply.finish_reason == "length":
            raise NoScoreError("cut off")
        return self.read(reply.text)

    def _keep(self, prompt: str, reply: Reply, score: float) -> None:
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
        entry: dict[str, Any] = {
            "url": self.endpoint.url,
            "request": self.endpoint.request(prompt),
            "model": reply.model,
            "reply": reply.text,
            "usage": usage,
            "score": score,
        }
        write_json(self._place(prompt), entry)


def _finish(work: Coroutine[Any, Any, list[Verdict]]) -> list[Verdict]:
    """Runs a coroutine to its end, also where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as aside:
        return aside.submit(asyncio.run, work).result()
