"""Shared settings that nothing takes: a value that all overrides is a mistake of whoever set it."""

from collections.abc import Collection, Mapping
from typing import Any

from sare_jax.errors import UserError
from sare_jax.nested import flatten


def refuse_unused(
    shared: Mapping[str, Any],
    defaults: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]],
    made: Mapping[str, Mapping[str, Any]],
    sections: tuple[str, str],
    chosen: Collection[str] = (),
) -> None:
    """Raises `UserError` for a shared value that was set and reaches nobody.

    Args:
      shared: the values that are shared, as given.
      defaults: what they are where nobody sets them; a value that differs was set.
      own: name → the values that override the shared ones.
      made: name → the values that result. A config that was saved with all its values repeats the shared ones
        in every member, where they are overridden and reach it all the same.
      sections: dotted names of the shared section and of the one that overrides it, such as `config.optim`
        and `config.runs`.
      chosen: dotted keys that count as set whatever their value, such as those of a command line.
    """
    where, members = sections
    plain, overrides = flatten(defaults, "."), {name: flatten(values, ".") for name, values in own.items()}
    results = {name: flatten(values, ".") for name, values in made.items()}
    for key, value in flatten(shared, ".").items():
        asked = f"{where}.{key}".removeprefix("config.") in chosen
        if not overrides or not (asked or plain.get(key) != value):
            continue
        if all(key in values for values in overrides.values()) and (
            asked or all(result.get(key) != value for result in results.values())
        ):
            names = [f"{members}.{name}.{key}" for name in overrides]
            raise UserError(
                f"{where}.{key}: has no effect, since each of {', '.join(overrides)} sets its own; "
                f"set {names[0]}" + (f", or {', '.join(names[1:])}" if names[1:] else "")
            )
