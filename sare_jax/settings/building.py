"""Makes a settings dataclass from a plain dictionary, and checks it. Needs the standard library alone.

A field's type says what it takes: a Python type, a `Literal`, a `Size` (a number or `auto`), another
dataclass (a section of its own), or a union of dataclasses that differ in the `Literal` of their `kind` (a
section whose keys depend on its kind).
"""

import dataclasses
import difflib
import types
import typing
from typing import Any, Literal

from sare_jax.errors import UserError
from sare_jax.settings.auto import AUTO, Size

NOT_AUTO = (
    "must be a number: auto is for sizes on which no result depends (caption.batch_size, "
    "evaluate.batch_size, evaluate.question_batch_size, optim.micro_batches, LoRA's rows_at_once)"
)
"""What is said of `auto` where it cannot be."""

LARGEST_SEED = 2**32 - 1
"""Of a setting called `seed`; what every generator that it starts takes, Grain's among them."""


def build(kind: Any, values: Any, where: str) -> Any:
    """Makes one settings dataclass from a dictionary, checking names, types and ranges.

    Args:
      kind: the dataclass, or a union of dataclasses that differ in their `kind`. A class variable
        `RENAMED`, old key → new key, names keys that users may still write. A method `check(where)` raises
        `UserError`, or ValueError with such a message, for values out of range. Both may be absent.
      values: field → value, nested dictionaries for sections; fields left out keep their defaults.
      where: dotted name of the section, such as `config.optim`, for messages.

    Raises:
      UserError: a key is unknown or was renamed, or a value is of the wrong type or out of range; names it.
    """
    values = section(values, where)
    if has_kinds(kind):
        values = given(values)
        kind = _chosen(kind, values, where)
    known = {f.name for f in dataclasses.fields(kind)}
    refuse_unknown(values, known, where, renamed=getattr(kind, "RENAMED", {}))
    hints = typing.get_type_hints(kind)
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    made = kind(
        **{
            key: typed(_filled(value, defaults[key]), hints[key], f"{where}.{key}")
            for key, value in values.items()
        }
    )
    if not 0 <= getattr(made, "seed", 0) <= LARGEST_SEED:
        raise UserError(f"{where}.seed: must be from 0 to {LARGEST_SEED}, got {made.seed}")
    try:
        if hasattr(made, "check"):
            made.check(where)
    except ValueError as error:  # of packages that know nothing of settings
        raise UserError(str(error)) from None
    return made


def section(values: Any, where: str) -> dict[str, Any]:
    """`values`, if they are a dictionary with texts as keys; raises `UserError` where they are not."""
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{where}: expected a section of keys, got {values!r}")
    return values


def _filled(value: Any, default: Any) -> Any:
    """Fills a section's missing keys from the default of its field, which may differ from the class's own."""
    if isinstance(value, dict) and dataclasses.is_dataclass(default) and not isinstance(default, type):
        own = dataclasses.asdict(default)
        if "kind" not in own:  # else other keys may belong to another kind
            return own | value
    return value


def refuse_unknown(
    values: dict,
    known: set[str],
    where: str,
    *,
    renamed: typing.Mapping[str, str] = types.MappingProxyType({}),
) -> None:
    """Raises `UserError` for the first unknown key; names its new name, or a known key that is similar."""
    for key in section(values, where):
        if key in known:
            continue
        if key in renamed:
            raise UserError(f"{where}.{key}: is called {where}.{renamed[key]} now")
        close = difflib.get_close_matches(key, known, n=1)
        advice = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(sorted(known))}"
        raise UserError(f"{where}.{key}: unknown key; {advice}")


def given(values: dict) -> dict:
    """Drops None and empty sections; None stands for the keys of kinds that are not chosen."""
    kept = {key: given(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def merged(shared: dict, overrides: dict) -> dict:
    """Shared values with single ones replaced; sections are merged key by key."""
    result = dict(shared)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def has_kinds(hint: Any) -> bool:
    """Whether a field's type is a union of dataclasses, of which a `kind` chooses one."""
    return isinstance(hint, types.UnionType) and all(map(dataclasses.is_dataclass, typing.get_args(hint)))


def kinds_of(union: types.UnionType) -> dict[str, type]:
    """The members of a union of dataclasses by the `Literal` of their `kind`, in order."""
    return {typing.get_args(typing.get_type_hints(m)["kind"])[0]: m for m in typing.get_args(union)}


def keys_of(kind: Any, where: str) -> list[str]:
    """Dotted keys of a settings dataclass, or of all members of a union, below `where`."""
    if has_kinds(kind):
        return [key for member in kinds_of(kind).values() for key in keys_of(member, where)]
    if not dataclasses.is_dataclass(kind):
        return [where]
    hints = typing.get_type_hints(kind)
    return [key for f in dataclasses.fields(kind) for key in keys_of(hints[f.name], f"{where}.{f.name}")]


def above_zero(value: float, where: str) -> None:
    """Raises `UserError` unless the value is above 0."""
    if value <= 0:
        raise UserError(f"{where}: must be above 0, got {value}")


def at_least(value: float | Literal["auto"], least: float, where: str) -> None:
    """Raises `UserError` where the value is below `least`; `auto` is not."""
    if value != AUTO and value < least:
        raise UserError(f"{where}: must be at least {least}, got {value}")


def _chosen(union: types.UnionType, values: dict, where: str) -> type:
    """The member of a union whose `kind` the values name; without one, the first.

    Raises:
      UserError: there is no such kind, or a key belongs to another one.
    """
    members = kinds_of(union)
    name = values.get("kind", next(iter(members)))
    if not isinstance(name, str) or name not in members:
        raise UserError(f"{where}.kind: {name!r} is not one of {', '.join(map(repr, members))}")
    known = {kind: {f.name for f in dataclasses.fields(member)} for kind, member in members.items()}
    for key in values:
        having = [kind for kind in members if key in known[kind]]
        if having and name not in having:
            raise UserError(
                f"{where}.{key}: belongs to kind {' or '.join(having)}, but {where}.kind is {name}; "
                f"set {where}.kind={having[0]} or leave {key} out"
            )
    return members[name]


def typed(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` has it; raises `UserError` where it is of another type."""
    if has_kinds(hint) or dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if hint == Size:
        if value != AUTO and (not isinstance(value, int) or isinstance(value, bool)):
            raise UserError(f"{where}: expected a number or auto, got {value!r}")
        return value
    if hint is int and value == AUTO:
        raise UserError(f"{where}: {NOT_AUTO}")
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(repr, choices))}")
        return value
    if isinstance(hint, types.GenericAlias):
        hint = typing.get_origin(hint)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{where}: {value!r} is too large") from None
    if hint is float and value != value:
        raise UserError(f"{where}: is no number")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UserError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value
