"""What all command lines share: one line for a mistake, exit status 2; no traceback."""

import contextlib
import importlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO, cast

from absl import flags

from sare_jax import extras, shipped
from sare_jax.errors import Terminated, UserError
from sare_jax.interruption import interruptible, interruption
from sare_jax.suggestions import suggestion
from sare_jax.unwritable import GOES_ON, WriteError, of_system

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
UNREAD = 128 + signal.SIGPIPE


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a command so that whatever ends it early is one line and an exit status, without a traceback.

    A `UserError`, and a disk that is full or cannot be written to, exit with status 2; standard output counts
    too, to its last byte. So does the import of something that is not installed and that an extra of the
    package brings. Ctrl-C exits with status 130, SIGTERM with 143; what was finished stays, and the
    same command goes on from there. Where the reader of standard output has gone (`… | head`), the status is
    141 and nothing is said.
    """

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with interruptible(), _named_output():
                return function(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            if end := _end_of(error):
                raise end from None
            raise

    return wrapped


def _end_of(error: BaseException) -> SystemExit | None:
    """How a command ends on an error that is no fault of the program; says why. None for any other error."""
    if interrupt := interruption(error):
        return _end(
            TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED, f"interrupted; {GOES_ON}"
        )
    if isinstance(error, UserError):
        return _end(2, f"error: {error}")
    if isinstance(error, ModuleNotFoundError) and (needed := extras.lacking(error)):
        return _end(2, f"error: {_program()} {needed}")
    if isinstance(error, _UnreadError):
        return _end(UNREAD)
    if isinstance(error, OSError) and (placed := of_system(error)):
        return _end(2, f"error: {placed}")
    return None


class _UnreadError(Exception):
    """The reader of standard output has gone."""


@dataclass(frozen=True)
class _Output:
    """Standard output, whose errors name it."""

    stream: TextIO

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._naming():
            try:
                return self.stream.write(text)
            except UnicodeEncodeError as error:  # a terminal or a locale without these letters
                shown = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
                return self.stream.write(shown)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._naming():
            self.stream.flush()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _let_go(self.stream)
            if isinstance(error, BrokenPipeError):
                raise _UnreadError from None
            way_out = "free some space there, or send it elsewhere"
            raise WriteError(
                f"standard output: cannot be written ({error.strerror or error}); {way_out}"
            ) from None


@contextmanager
def _named_output() -> Iterator[None]:
    """Has errors of standard output, to its last byte, name it."""
    if sys.stdout is None:  # closed before the start
        yield
        return
    output = _Output(sys.stdout)
    with contextlib.redirect_stdout(cast(TextIO, output)):
        try:
            yield
        except SystemExit:  # such as argparse's after --help
            output.flush()
            raise
    output.flush()


def _let_go(stream: TextIO) -> None:
    """Sends what is left in a stream's buffer nowhere, or Python would complain about it at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _end(status: int, line: str = "") -> SystemExit:
    """Says why a command ends."""
    try:
        if line:
            print(line, file=sys.stderr, flush=True)
    except OSError:  # standard error may be as full as all else
        _let_go(sys.stderr)
    return SystemExit(status)


def launch(target: str, arguments: Sequence[str]) -> None:
    """Imports and runs a command, guarded.

    Args:
      target: `module:name` of a function of the command line without the program's name.
      arguments: that command line.
    """

    def imported() -> None:
        module, _, name = target.partition(":")
        getattr(importlib.import_module(module), name)(arguments)

    guarded(imported)()


SARE = ("sare ", "python -m sare_jax ")
"""How a command line begins that names one of the commands of `sare_jax.__main__`."""


def called(otherwise: str) -> str:
    """What the user typed to get here, for a usage line.

    Args:
      otherwise: what was typed unless it was `sare NAME` or `python -m sare_jax NAME`.
    """
    return sys.argv[0] if sys.argv[0].startswith(SARE) else otherwise


def _program() -> str:
    """What the user called: `sare chair`, `main.py`, or the package of `python -m`."""
    path = Path(sys.argv[0])
    return path.parent.name if path.stem == "__main__" else path.name


def normalise_arguments(
    values: flags.FlagValues,
    arguments: Sequence[str],
    required: Sequence[str] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
    keys: Collection[str] = (),
) -> list[str]:
    """Parses absl flags strictly.

    `--flag False` means what it says (absl would read `--flag` as true and drop the rest), and a word that
    belongs to no flag is an error.

    Args:
      values: the flags.
      arguments: the command line, program name first.
      required: flags that must be given.
      renamed: keys of the config that have another name now, old → new.
      keys: dotted keys that a config may have, for advice (`suggestions.suggestion`).

    Returns:
      The program name alone, in a list.

    Raises:
      UserError: an unknown or renamed key or flag, a value of the wrong type, a stray word, a missing flag.
    """
    for argument in arguments:
        key = argument.partition("=")[0].removeprefix("--config.")
        if argument.startswith("--config.") and key in renamed:
            raise UserError(f"--config.{key}: is called --config.{renamed[key]} now")
    try:
        rest = values(_joined(values, list(arguments)))
    except WriteError:  # of standard output, to which --help goes
        raise
    except (AttributeError, KeyError) as error:  # how a locked ConfigDict refuses a key
        raise UserError(_no_such_key(_one_line(error), arguments, values, keys)) from None
    except flags.UnrecognizedFlagError as error:
        advice = suggestion(error.flagname, values, keys)
        raise UserError(f"--{error.flagname}: no such flag; {advice or '--help lists them'}") from None
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(_one_line(error)) from None
    except OSError as error:
        raise _config_error(error) from None
    except SyntaxError as error:
        raise UserError(f"--config: {error.filename}: line {error.lineno}: {error.msg}") from None
    except Exception as error:
        told, raised_in = f"{type(error).__name__}: {_one_line(error)}", _file_of(error)
        if "ml_collections" in raised_in or "absl" in raised_in:
            # An override that the config does not have a place for, such as `a[0]=1`.
            raise UserError(f"{told}; write --config.section.key=value") from None
        raise UserError(f"--config: {raised_in}: {told}") from None
    if len(rest) > 1:
        name = Path(rest[1].partition(":")[0]).name.removesuffix(".py")
        meant = f"--config {rest[1]}" if name in shipped.experiments() else "--flag=value"
        raise UserError(f"{rest[1]!r} belongs to no flag; write {meant}")
    for name in required:
        if not values[name].present:
            example = f"{called('python main.py')} --config demo_sare"
            raise UserError(f"--{name} is missing; for example: {example}")
    return rest


def with_config_file(arguments: Sequence[str]) -> list[str]:
    """The command line with the path of the shipped file where `--config` names an experiment."""
    named = list(arguments)
    for place, argument in enumerate(named):
        flag, sign, value = argument.partition("=")
        if flag.lstrip("-") == "config" and argument.startswith("-"):
            if sign:
                named[place] = f"{flag}={shipped.config_file(value)}"
            elif place + 1 < len(named):
                named[place + 1] = shipped.config_file(named[place + 1])
    return named


def _no_such_key(told: str, arguments: Sequence[str], values: flags.FlagValues, keys: Collection[str]) -> str:
    """The argument whose key a locked ConfigDict refused, and what may have been meant.

    Args:
      told: the ConfigDict's message, which begins with the word that it does not know.
      arguments: the command line.
      values: the flags.
      keys: dotted keys that a config may have.
    """
    words = [argument.partition("=")[0].removeprefix("--") for argument in arguments]
    told = told.partition(" ")[0]  # a question of the library's may follow
    written = [word for word in words if word.startswith("config.") and told in word.split(".")]
    if not written:
        return f"--config: no such key: {told}"
    _, section, *rest = written[0].split(".")
    if section == "runs" and len(rest) > 1 and rest[0] == told:
        key = ".".join(rest[1:])
        return f"--{written[0]}: no run is called {told}; begin one with --run {told}=FROM,{key}=VALUE"
    advice = suggestion(written[0], values, keys)
    return f"--{written[0]}: no such key{'; ' if advice else ''}{advice}"


def config_dict(flag: flags.FlagHolder) -> dict:
    """The plain dictionary behind a `DEFINE_config_file` flag.

    Raises:
      UserError: the file is missing or does not run; absl keeps that error back until the value is read.
    """
    try:
        return flag.value.to_dict()
    except Exception as error:  # whatever the user's own Python file raised
        raise _config_error(error) from None


def _file_of(error: BaseException) -> str:
    """The source file in which an error was raised."""
    return traceback.extract_tb(error.__traceback__)[-1].filename


def _config_error(error: Exception) -> UserError:
    missing = re.search(r"No such file or directory: '([^']*)'", str(error))
    if missing:
        known = ", ".join(shipped.experiments())
        return UserError(f"--config: {missing[1]}: no such file; those of configs/ are {known}")
    return UserError(f"--config: {type(error).__name__}: {_one_line(error)}")


def _joined(values: flags.FlagValues, arguments: list[str]) -> list[str]:
    """Joins `--flag value` with `=` where absl would take a boolean flag's value for a stray word."""
    joined: list[str] = []
    for argument in arguments:
        previous = joined[-1] if joined else ""
        name = previous.lstrip("-")
        is_boolean = (name in values and values[name].boolean) or previous.startswith("--config.")
        if len(joined) > 1 and is_boolean and "=" not in previous and not argument.startswith("-"):
            joined[-1] = f"{previous}={argument}"
        else:
            joined.append(argument)
    return joined


def _one_line(error: BaseException) -> str:
    text = str(error)
    if "Traceback (most recent call last)" in text:  # of a config file: its own last line says what is wrong
        return text.strip().splitlines()[-1].partition(": ")[2].strip('" ')
    return " ".join(str(error).replace("\\n", " ").replace("\\", "").replace("'", "").split()).strip('" ')
