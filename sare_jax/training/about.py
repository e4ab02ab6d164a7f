"""What a checkpoint says of itself: whose it is, what its arrays have to be, where the run stood.

It lies in the checkpoint's folder, as `about/about.json` with a checksum of its own, and appears together
with the arrays. So a checkpoint whose files were damaged is told from a sound one by the values that are read
from it, whichever file was hit, and equal values have equal hashes, which Orbax's folders do not have.
"""

import hashlib
import json
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from sare_jax import files, hosts
from sare_jax.errors import UserError
from sare_jax.models.shared.partition import hash_params
from sare_jax.schema import checked

NAME = "about"  # of the sub-folder
_FILE, _LOG = "about.json", "log.jsonl"


@dataclass(frozen=True)
class About:
    """Facts of one checkpoint.

    Attributes:
      base: "id" and "hash" of the base model.
      settings: that a resumed run has to share.
      members: tree ("params", "optimizer") → '/'-joined path → shape.
      values: tree → hash of its paths, shapes, dtypes and values, in hex.
      place: state of the iterator of batches; None where parameters were saved alone.
      log: SHA-256 of the training log up to here, in hex.
    """

    base: dict[str, str]
    settings: dict[str, Any]
    members: dict[str, dict[str, list[int]]]
    values: dict[str, str]
    place: Any = None
    log: str = ""


def about(base: Any, settings: dict, trees: Mapping[str, Any], place: Any = None, log: str = "") -> "Saved":
    """What Orbax saves beside the trees; waits for their values.

    Args:
      base: the base model, with `folder` and `content_hash`.
      settings: JSON-able values that a resumed run has to share.
      trees: name → tree of arrays.
      place: JSON-able state of the iterator of batches.
      log: the training log up to here, JSON lines.
    """
    facts = About(
        {"id": base.folder.name, "hash": base.content_hash},
        settings,
        {name: {path: list(shape) for path, shape in shapes(tree).items()} for name, tree in trees.items()},
        {name: hash_params(jax.tree.map(raw, tree)) for name, tree in trees.items()},
        place,
        hashlib.sha256(log.encode()).hexdigest(),
    )
    return Saved(json.dumps(files.sealed(asdict(facts))), log)


def read(step: Path) -> About:
    """What a checkpoint says of itself.

    Args:
      step: the checkpoint's folder.

    Raises:
      UserError: it is missing or damaged, or the log beside it is; names the file.
    """
    path = step / NAME / _FILE
    facts = checked(files.read_sealed(path), About, str(path))
    if hashlib.sha256(log_of(step).encode()).hexdigest() != facts.log:
        raise UserError(f"{step / NAME / _LOG}: changed since it was written")
    return facts


def log_of(step: Path) -> str:
    """The training log up to a checkpoint, JSON lines."""
    return files.read_text(step / NAME / _LOG)


def changed(facts: About, trees: Mapping[str, Any]) -> list[str]:
    """Names of the trees that are not what was saved."""
    return [
        name for name, tree in trees.items() if hash_params(jax.tree.map(raw, tree)) != facts.values[name]
    ]


class Saved:
    """Both files, for Orbax.

    All hosts know the same, so they are written once.
    """

    def __init__(self, text: str, log: str):
        self._text, self._log = text, log

    async def save(self, directory: Any) -> Coroutine[None, None, None]:
        """Called by Orbax; the coroutine writes in the background."""

        async def write() -> None:
            folder = await directory.await_creation()
            if hosts.is_first():
                (folder / _LOG).write_text(self._log, encoding="utf-8")
                (folder / _FILE).write_text(self._text, encoding="utf-8")

        return write()

    async def load(self, directory: Any) -> Coroutine[None, None, None]:
        """Part of Orbax's protocol; `read` reads the files."""
        raise NotImplementedError(f"{directory}: is read by `about.read`")


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """'/'-joined path → shape; a PRNG key counts as the integers behind it."""
    leaves, _ = jax.tree.flatten_with_path(jax.eval_shape(lambda t: jax.tree.map(raw, t), tree))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves
    }


def raw(x: jax.Array) -> jax.Array:
    """An array as it is stored: of PRNG keys, the integers behind them."""
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
