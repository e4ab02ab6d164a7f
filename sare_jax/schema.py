"""Values from outside, checked against a Python type at the border: what comes in has that form, or is named.

The types are those of annotations: `int`, `float`, `str`, `bool`, `Any`, `list[T]`, `dict[str, T]`,
`tuple[A, B]`, `tuple[T, ...]`, `Literal`, unions, and dataclasses for objects with keys. It reads them with
the standard library alone: pydantic takes 90 ms to import, as long as a command that scores captions.
"""

import dataclasses
import functools
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from sare_jax.errors import UserError
from sare_jax.files import read_json

T = TypeVar("T")

_MOST_DIGITS = 18  # of a number that surely fits into 64 bits

LARGEST = 2**63 - 1
"""Of whole numbers that arrays can hold."""

_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@typing.overload
def checked(value: Any, kind: type[T], where: str) -> T: ...
@typing.overload
def checked(value: Any, kind: Any, where: str) -> Any: ...
def checked(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind` has it.

    Whole numbers fit into 64 bits and count as numbers; numbers are finite. Lists become tuples where `kind`
    says so. Of an object, keys that a dataclass does not know are passed over, and those that it has defaults
    for may be missing.

    Args:
      value: as JSON gives it.
      kind: a type as above.
      where: what errors call the value: a file, or a file and a key.

    Raises:
      UserError: some part of the value is of another type; names it.
    """
    return _checked(value, kind, where)


def whole_number(text: str) -> int | None:
    """The whole number that a text of digits spells; None where it spells none, or one beyond 64 bits."""
    digits = text.lstrip("0") or text[-1:]
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS else None


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that has to hold an object.

    Raises:
      UserError: the file cannot be read, or holds something else; names it.
    """
    return checked(read_json(path), dict[str, Any], str(path))


def _checked(value: Any, kind: Any, where: str) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _any_of(value, parts, where)
    if origin is Literal:
        if value not in parts or isinstance(value, bool) != isinstance(parts[parts.index(value)], bool):
            raise UserError(f"{where} is {value!r}, need {_list(map(repr, parts))}")
        return value
    if dataclasses.is_dataclass(kind):
        return _object(value, kind, where)
    if origin is list:
        return [_checked(item, parts[0], f"{where}[{i}]") for i, item in enumerate(_list_of(value, where))]
    if origin is tuple:
        return _tuple(value, parts, where)
    if origin is dict:
        keys = _plain(value, dict, where)
        return {key: _checked(item, parts[1], f"{where}: {key!r}") for key, item in keys.items()}
    return _plain(value, kind, where)


def _any_of(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    for kind in kinds:
        try:
            return _checked(value, kind, where)
        except UserError:
            continue
    raise UserError(f"{where} is {_shown(value)}, need {_list(map(_name, kinds))}")


def _object(value: Any, kind: Any, where: str) -> Any:
    keys = _plain(value, dict, where)
    made = {}
    for name, hint, required in _fields(kind):
        if name in keys:
            made[name] = _checked(keys[name], hint, f"{where}: {name!r}")
        elif required:
            raise UserError(f"{where} has no {name!r}")
    return kind(**made)


@functools.cache
def _fields(kind: Any) -> list[tuple[str, Any, bool]]:
    hints, missing = typing.get_type_hints(kind), dataclasses.MISSING
    return [
        (field.name, hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
        if field.init
    ]


def _tuple(value: Any, parts: tuple[Any, ...], where: str) -> tuple:
    items = _list_of(value, where)
    if len(parts) == 2 and parts[1] is ...:
        parts = (parts[0],) * len(items)
    if len(items) != len(parts):
        raise UserError(f"{where} is a list of {len(items)}, need {len(parts)}")
    return tuple(
        _checked(item, part, f"{where}[{i}]") for i, (item, part) in enumerate(zip(items, parts, strict=True))
    )


def _list_of(value: Any, where: str) -> list | tuple:
    return value if isinstance(value, tuple) else _plain(value, list, where)


def _plain(value: Any, kind: Any, where: str) -> Any:
    if kind is float and type(value) is int and abs(value) <= LARGEST:
        return float(value)
    fits = value is None if kind is None else type(value) is kind
    if not fits or (kind is float and not math.isfinite(value)) or (kind is int and abs(value) > LARGEST):
        raise UserError(f"{where} is {_shown(value)}, need {_name(kind)}")
    return value


def _name(kind: Any) -> str:
    plain = type(None) if kind is None else typing.get_origin(kind) or kind
    return _NAMES.get(plain, "a list" if plain is tuple else "an object")


def _shown(value: Any) -> str:
    """The value, shortened before it is spelt: it may be as large as its file."""
    if isinstance(value, list | dict):
        return (
            f"{_NAMES[type(value)]} of {len(value)}"
            if value
            else f"an empty {'list' if value == [] else 'object'}"
        )
    return repr(value[:300] if isinstance(value, str) else value)


def _list(names: typing.Iterable[str]) -> str:
    *first, last = dict.fromkeys(names)
    return f"{', '.join(first)} or {last}" if first else last
