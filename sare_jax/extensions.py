"""What a setting names: something of this package by its short name, or somebody's own by `module:name`."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from sare_jax.errors import UserError
from sare_jax.extras import lacking


def resolve(name: str, table: Mapping[str, str], where: str) -> Any:
    """The object that a setting names; its module is imported then and not before.

    Args:
      name: a short name of `table`, or `module:name` of anything that can be imported.
      table: short name → `module:name`.
      where: the setting's key, for messages.

    Raises:
      UserError: no short name, no module or nothing of that name in it; names the key and the short names.
    """
    target = table.get(name, name)
    module, _, attribute = target.partition(":")
    known = [*table, "module:name"]
    if not attribute:
        close = difflib.get_close_matches(name, table, n=1)
        advice = f"did you mean {close[0]}?" if close else f"give one of {', '.join(known)}"
        raise UserError(f"{where}: {name!r} is not known; {advice}")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        reason = lacking(error) or f"cannot be imported ({error})"
        raise UserError(f"{where}: {name!r} {reason}") from None
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: {name!r} cannot be imported ({error})") from None
