"""What the metrics' command lines share: options, the printed table, errors in one line."""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sare_jax.command import called, guarded
from sare_jax.errors import UserError, one_line
from sare_jax.evaluation import bootstrap
from sare_jax.files import hash_file, read_text
from sare_jax.settings.building import LARGEST_SEED
from sare_jax.settings.evaluate import MOST_DRAWS

COMMAND = "python -m sare_jax.evaluation"


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser whose usage line begins with what was typed: `sare NAME`, or `COMMAND NAME`."""
    return argparse.ArgumentParser(prog=called(f"{COMMAND} {name}"), description=description)


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, about: str
) -> argparse.ArgumentParser:
    """Adds a command of a command; its own --help begins with what the list says of it."""
    return commands.add_parser(name, help=about, description=about[0].upper() + about[1:])


def add_renamed(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Has an option's old name be refused with its new one."""

    class _Refusal(argparse.Action):
        def __call__(self, *_: Any) -> None:
            raise UserError(f"{old}: is called {new} now")

    parser.add_argument(old, action=_Refusal, help=argparse.SUPPRESS)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Has errors of the block that name no file begin with that of what is scored."""
    try:
        yield
    except UserError as error:
        if Path(path).name in str(error):
            raise
        raise UserError(f"{path}: {error}") from None


def add_common(parser: argparse.ArgumentParser) -> None:
    """Adds --json, --draws and --seed."""
    parser.add_argument("--json", action="store_true", help="the whole result as JSON on standard output")
    parser.add_argument("--draws", type=draws, default=bootstrap.DRAWS, help="bootstrap resamples")
    parser.add_argument("--seed", type=seed, default=0, help="of the bootstrap")


def draws(text: str) -> int:
    """An option's number of bootstrap resamples; refuses what is none, and more than memory holds."""
    return _whole(text, 1, MOST_DRAWS)


def seed(text: str) -> int:
    """An option's seed; refuses what no generator takes."""
    return _whole(text, 0, LARGEST_SEED)


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{one_line(repr(text))} is no whole number from {least} to {most}")
    return int(text)


def run(main: Callable[[], None]) -> None:
    """Runs a command line: a `UserError` ends it with one line and status 2; each warning prints one line."""
    warnings.showwarning = _warn
    guarded(main)()


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"WARNING: {message}", file=sys.stderr)


def file_identity(path: str | Path) -> dict[str, str]:
    """File name and SHA-256 of an input file, by which a result names its source."""
    return {"file": Path(path).name, "sha256": hash_file(Path(path))}


def read_ids(path: str | Path) -> list[str]:
    """Ids of a file, one a line.

    Raises:
      UserError: the file cannot be read.
    """
    return read_text(path).split()


def print_json(result: dict[str, Any]) -> None:
    """Prints a result as one line of JSON, in ASCII alone where standard output is not in UTF-8."""
    is_plain = (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")
    print(json.dumps(result, ensure_ascii=is_plain, allow_nan=False))


def print_table(title: str, result: dict[str, Any], names: list[str]) -> None:
    """Prints a result for reading: metrics with intervals, then the rule and what was left out."""
    print("\n".join(table_lines(title, result, names)))


def table_lines(title: str, result: dict[str, Any], names: list[str]) -> list[str]:
    """A result as lines of text: one metric a line, then counts, rule and what was dropped."""
    width = max(map(len, names))
    lines = [f"{title}   n = {result['n']}"]
    for name in names:
        value, bounds = result[name], result["intervals"].get(name)
        shown = "not defined" if value is None else f"{value:9.3f}"
        span = f"   95 % [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""
        lines.append(f"  {name:<{width}} {shown}{span}")
    lines.append(f"  rule: {result['rule']}")
    counted = [f"{name} {result[name]}" for name in ("unknown", "n_no_object", "skipped") if name in result]
    if counted:
        lines.append(f"  counted: {', '.join(counted)}")
    for reason, entry in result["dropped"].items():
        which = ", ".join(entry["which"]) + (" …" if entry["count"] > len(entry["which"]) else "")
        lines.append(f"  dropped, {reason}: {entry['count']} ({which})")
    lines += [f"  WARNING: {text}" for text in result.get("warnings", ())]
    for lack in result.get("truth", {}).get("partial", []):
        lines.append(f"  PARTIAL GROUND TRUTH: {lack}")
    return lines
