"""Names of a package that are imported when they are first asked for (PEP 562)."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def names_of(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package.

    Args:
      package: its name.
      where: name → module that defines it.
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(where[name]), name)
        except ModuleNotFoundError as error:
            from sare_jax.extras import lacking  # `targeted_sam` alone loads nothing that it does not need

            if needed := lacking(error):
                error.__notes__ = [f"{package}.{name} {needed}"]  # in place of those of names further in
            raise
        setattr(sys.modules[package], name, value)  # asked for once
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where})

    return get, names
