"""What the command lines that ask a judge share: whom to ask, where replies are kept, what it costs."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation.judging.judge import Judge
from sare_jax.files import parse_json
from sare_jax.llm.client import PRESETS, Endpoint, is_local, read_key

_CHARACTERS_A_TOKEN = 4.0


def add_judge(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `judge_of` reads."""
    group = parser.add_argument_group("judge", "any endpoint with OpenAI's chat completions")
    group.add_argument("--judge", choices=sorted(PRESETS), default="deepseek", help="preset")
    group.add_argument("--base-url", help="another address, up to /chat/completions; needs --model")
    group.add_argument("--model", help="another model of the endpoint")
    group.add_argument(
        "--key-variable",
        help="environment variable with the key; the preset's, or none with --base-url",
    )
    group.add_argument("--cache", type=Path, default=default_cache(), help="folder that keeps the replies")
    group.add_argument("--parallel", type=int, default=8, help="questions on their way at the same time")
    group.add_argument("--timeout", type=float, default=120.0, help="seconds for one request")
    group.add_argument(
        "--deadline", type=float, default=180.0, help="seconds for one question with all its requests"
    )
    group.add_argument("--tries", type=int, default=3, help="times a question without a usable reply is put")
    group.add_argument("--max-tokens", type=int, default=1024, help="limit on a reply")
    group.add_argument("--body", default="{}", help="more fields of the request, as JSON; null removes one")
    group.add_argument("--price-in", type=float, help="price of a million prompt tokens")
    group.add_argument("--price-out", type=float, help="price of a million tokens of replies")
    group.add_argument("--dry-run", action="store_true", help="say what would be asked, and end")


def default_cache() -> Path:
    """The folder that keeps replies unless `--cache` names another one."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sare_jax" / "judge"


def judge_of(options: argparse.Namespace, read: Callable[[str], float]) -> Judge:
    """The judge that the options name. It may lack a key that is needed; `announce` refuses that.

    Raises:
      UserError: `--base-url` without `--model`, no http address, or a number that is not above 0.
    """
    preset = PRESETS[options.judge]
    if options.base_url and not options.model:
        raise UserError("--base-url needs --model: the name of a model there")
    for name in ("parallel", "timeout", "deadline", "tries", "max_tokens"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0")
    base_url = options.base_url or preset.base_url
    is_local(base_url)
    variable = _key_variable(options)
    endpoint = Endpoint(
        base_url,
        options.model or preset.model,
        read_key(variable, base_url) if variable in os.environ else "",
        _body(options.body),
        options.max_tokens,
        options.timeout,
        options.deadline,
        options.tries,
    )
    return Judge(endpoint, options.cache, read, options.parallel)


def _key_variable(options: argparse.Namespace) -> str:
    """A preset's key never travels to another address unless it is named."""
    if options.key_variable is not None:
        return options.key_variable
    return "" if options.base_url else PRESETS[options.judge].key_variable


def _body(text: str) -> dict[str, Any]:
    body = parse_json(text, "--body")
    if not isinstance(body, dict):
        raise UserError('--body: give an object, such as {"temperature": null}')
    return body


def announce(judge: Judge, questions: list[str], options: argparse.Namespace) -> None:
    """Says on standard error what is about to be asked and about what it costs; ends a dry run.

    Raises:
      UserError: a question is to be asked, and the key that it needs is not set.
    """
    open_ = [question for question in dict.fromkeys(questions) if judge.kept(question) is None]
    tokens = round(sum(map(len, open_)) / _CHARACTERS_A_TOKEN)
    told = f"{len(questions)} questions, {len(questions) - len(open_)} answered before; {len(open_)} to ask"
    price = _price(tokens, 12 * len(open_), options)  # the answer asked for is a line of about a dozen tokens
    about = f", about {tokens} prompt tokens" + (f", about {price:.4f}" if price is not None else "")
    print(f"{judge.endpoint.model} at {judge.endpoint.base_url}: {told}{about}", file=sys.stderr)
    if options.dry_run:
        raise SystemExit(0)
    if open_:
        read_key(_key_variable(options), judge.endpoint.base_url)


def cost(tokens: dict[str, int], options: argparse.Namespace) -> dict[str, float | None]:
    """What all replies cost, and those of this run, in the currency of the prices; None without prices."""
    return {
        "all": _price(tokens["prompt"], tokens["completion"], options),
        "now": _price(tokens["prompt_now"], tokens["completion_now"], options),
    }


def cost_line(tokens: dict[str, int], options: argparse.Namespace) -> str:
    """A line on the tokens and the cost of this run."""
    spent = cost(tokens, options)["now"]
    shown = "give --price-in and --price-out for the cost" if spent is None else f"cost {spent:.4f}"
    used = f"{tokens['prompt_now']} prompt and {tokens['completion_now']} completion tokens"
    return f"this run: {used}; {shown}; {tokens['replies_kept_before']} replies kept from before"


def _price(prompt: int, completion: int, options: argparse.Namespace) -> float | None:
    if options.price_in is None or options.price_out is None:
        return None
    return (prompt * options.price_in + completion * options.price_out) / 1e6
