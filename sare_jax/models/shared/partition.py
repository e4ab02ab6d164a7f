"""Parameters as plain nested dictionaries, and their division into trainable and frozen."""

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sare_jax import nested
from sare_jax.errors import UserError

Tree = dict[str, Any]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries -> one, with '/'-joined paths as keys."""
    return nested.flatten(tree, "/")


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """The inverse of `flatten`."""
    tree: Tree = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def combine(params: Tree, frozen: Tree) -> Tree:
    """One tree of the leaves of both, which have none in common."""
    return unflatten(flatten(params) | flatten(frozen))


def trainable_paths(shapes: Mapping[str, Any], pattern: str, *, at_most: float) -> set[str]:
    """The paths that a regular expression selects for training.

    Args:
      shapes: '/'-joined path -> anything with a `shape`.
      pattern: has to match the whole path.
      at_most: largest allowed share of all parameters, 0 to 1.

    Raises:
      UserError: the pattern is no regular expression, selects nothing, or selects more than `at_most`.
    """
    try:
        matcher = re.compile(pattern)
    except re.error as error:
        raise UserError(f"trainable={pattern!r} is not a regular expression: {error}") from None
    chosen = {path for path in shapes if matcher.fullmatch(path)}
    if not chosen:
        raise UserError(f"trainable={pattern!r} selects no parameter; they are called {_examples(shapes)}")
    share = _count(shapes, chosen) / _count(shapes, shapes)
    if share > at_most:
        raise UserError(
            f"trainable={pattern!r} selects {share:.0%} of all parameters, more than the {at_most:.0%} "
            "allowed; narrow it, or raise the limit"
        )
    return chosen


def table(params: Tree, frozen: Tree) -> str:
    """Counts, bytes and dtypes of the trainable and the frozen parameters, and the names of the trainable."""
    lines = [f"{'':<10}{'parameters':>16}{'bytes':>18}  dtype"]
    for name, tree in (("trainable", params), ("frozen", frozen)):
        leaves = jax.tree.leaves(tree)
        count = sum(math.prod(leaf.shape) for leaf in leaves)
        size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
        dtypes = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        lines.append(f"{name:<10}{count:>16,}{size:>18,}  {dtypes}")
    for path, leaf in flatten(params).items():
        lines.append(f"  {path} {list(leaf.shape)}")
    return "\n".join(lines)


def _count(shapes: Mapping[str, Any], paths: Any) -> int:
    return sum(math.prod(shapes[path].shape) for path in paths)


def _examples(shapes: Mapping[str, Any]) -> str:
    parts = dict.fromkeys(path.split("/")[0] + "/…" for path in shapes)
    return ", ".join(parts)


def hash_params(params: Any) -> str:
    """SHA-256 of a tree of arrays in hex: '/'-joined paths, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    leaves, _ = jax.tree.flatten_with_path(params)
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
    for path, leaf in sorted(named, key=lambda pair: pair[0]):
        array = np.ascontiguousarray(np.asarray(leaf))
        digest.update(f"{path} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
