"""What all command lines share: one line for a mistake, exit status 2; no traceback."""

import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from absl import flags

from sare_jax import shipped
from sare_jax.errors import UserError

INTERRUPTED = 130


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a command so that a `UserError` prints one line and exits with status 2.

    An interruption (Ctrl-C or SIGTERM, raised as KeyboardInterrupt) exits with status 130; what was finished
    stays, and the same command goes on from there.
    """

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("interrupted; the same command goes on from here", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None

    return wrapped


def normalise_arguments(
    values: flags.FlagValues,
    arguments: Sequence[str],
    required: Sequence[str] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Parses absl flags strictly.

    `--flag False` means what it says (absl would read `--flag` as true and drop the rest), and a word that
    belongs to no flag is an error.

    Args:
      values: the flags.
      arguments: the command line, program name first.
      required: flags that must be given.
      renamed: keys of the config that have another name now, old → new.

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
    except (AttributeError, KeyError) as error:  # how a locked ConfigDict refuses a key
        raise UserError(f"--config: no such key: {_one_line(error)}") from None
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
        raise UserError(f"{rest[1]!r} belongs to no flag; write --flag=value")
    for name in required:
        if not values[name].present:
            raise UserError(f"--{name} is missing; for example: python main.py --config configs/demo_sare.py")
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
