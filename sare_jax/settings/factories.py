"""Makes a value from the name of a factory and its arguments, as settings give them."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from sare_jax.errors import UserError
from sare_jax.extensions import resolve
from sare_jax.settings.building import refuse_unknown, typed


def make(name: str, args: Mapping[str, Any], table: Mapping[str, str], where: str) -> Any:
    """Calls a factory with keyword arguments; the same factory and arguments give the same object.

    Args:
      name: the factory's short name in `table`, or `module:name`.
      args: keyword arguments of the factory; names and types are checked against its signature.
      table: short name → `module:name` of the factories that the package ships.
      where: dotted key of the name in the settings, for messages; with `_args` behind it, the arguments' key.

    Raises:
      UserError: there is no such factory; an argument is unknown or of the wrong type; or the factory refuses
        it, by a ValueError that begins with the argument's name and a colon.
    """
    factory = resolve(name, table, where)
    section = f"{where}_args"
    parameters, hints = inspect.signature(factory).parameters, typing.get_type_hints(factory)
    if args and not parameters:
        raise UserError(f"{section}.{next(iter(args))}: {name} takes no arguments; leave it out")
    refuse_unknown(dict(args), set(parameters), section)
    values = {
        key: typed(value, hints[key], f"{section}.{key}") if key in hints else value
        for key, value in args.items()
    }
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in values:
            raise UserError(f"{section}.{key}: missing; {name} needs it")
    try:
        return _made(factory, tuple(sorted((key, _hashable(value)) for key, value in values.items())))
    except ValueError as error:
        raise UserError(f"{section}.{error}") from None


@functools.cache
def _made(factory: Callable[..., Any], args: tuple[tuple[str, Any], ...]) -> Any:
    return factory(**dict(args))


def _hashable(value: Any) -> Any:
    return tuple(_hashable(member) for member in value) if isinstance(value, list | tuple) else value
