"""Nested mappings as flat ones."""

from collections.abc import Mapping
from typing import Any


def flatten(nested: Mapping[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    """Path of each leaf of a nested mapping, its keys joined by the separator → the leaf.

    What is no mapping is a leaf, a list too. `prefix` stands before every path.
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, separator, f"{path}{separator}")
        else:
            flat[path] = value
    return flat
