"""Checkpoints of a run, the one place that knows Orbax (its v1 interface).

A folder holds one sub-folder a saved step, with `params` (the trainable parameters), `optimizer` (its state,
the step and the PRNG key) and `data` (the place in the stream of batches). The base model's weights are not
in it: its name and content hash are, and another base is refused. Several hosts make and use `Checkpoints`
together, on a file system that all of them see.
"""

import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

import jax
from absl import logging
from orbax.checkpoint import v1 as ocp

from sare_jax import files, hosts
from sare_jax.errors import UserError
from sare_jax.training.state import Params, TrainState

_META = "_CHECKPOINT_METADATA"  # Orbax stamps it with the time of completion as its last act
_BASE = "base.json"


class Base(Protocol):
    """The part of `LoadedModel` that is used here."""

    @property
    def params(self) -> Params:
        """The trainable parameters."""

    @property
    def folder(self) -> Path:
        """The model's folder, whose name error messages show."""

    @property
    def content_hash(self) -> str:
        """Hash of the model's weights and shapes (`models.load.content_hash`)."""


class Checkpoints:
    """The checkpoints of one run; a context manager, which waits for the last save when it ends.

    Saves run in the background, one at a time. An interrupted save never counts: what it left is removed,
    with a warning, when the folder is next opened. An older checkpoint goes only when a newer one is whole.
    """

    def __init__(
        self, folder: Path, base: Base, *, settings: dict | None = None, every: int = 0, keep: int = 0
    ):
        """Opens or makes the folder.

        Args:
          folder: where checkpoints are kept; no other run may use it.
          base: the model that is tuned.
          settings: JSON-able values that have to be the same when a run is resumed; leave out what may
            change, such as the number of steps.
          every: steps between checkpoints; 0 for none but the last.
          keep: the newest so many are kept; 0 keeps all.

        Raises:
          UserError: the folder belongs to another base model or other settings.
        """
        self.folder = Path(folder).resolve()
        self.every = every
        _claim(self.folder, base, settings or {})
        hosts.first_only(lambda: _remove_incomplete(self.folder), "remove incomplete checkpoints")
        policies = ocp.training.preservation_policies
        self._orbax = ocp.training.Checkpointer(
            self.folder,
            preservation_policy=policies.LatestN(keep) if keep else policies.PreserveAll(),
            cleanup_tmp_directories=True,
        )
        self._pending: Any = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.wait()
        finally:
            self._orbax.close()

    @property
    def latest(self) -> int | None:
        """The newest saved step, or None."""
        newest = self._orbax.latest
        return newest.step if newest else None

    def is_due(self, step: int) -> bool:
        """Whether the interval asks for a checkpoint after this step."""
        return self.every > 0 and step % self.every == 0

    def save(self, step: int, state: TrainState, iterator: Any) -> None:
        """Starts saving; returns when the state may be changed or donated.

        Args:
          step: finished steps, `state.step`.
          state: what is saved: parameters, optimizer, step and PRNG key.
          iterator: a Grain iterator, or any object with its JSON-able `get_state` and `set_state`.

        Raises:
          Exception: the error with which the *previous* save failed in the background.
        """
        if step == self.latest:
            return
        self.wait()
        self._pending = self._orbax.save_checkpointables_async(
            step, {**_trees(state), "data": _Place(iterator)}, force=True
        )

    def wait(self) -> None:
        """Waits for the running save; raises the error with which it failed, if it did."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def restore(self, like: TrainState, iterator: Any) -> TrainState:
        """Reads the newest checkpoint.

        Args:
          like: a state of the same structure, whose arrays lie on the devices on which the restored ones
            shall.
          iterator: the stream of batches; it is set to the saved place.

        Raises:
          UserError: the saved state has other members or shapes; lists them.
        """
        step = self.latest
        wanted = jax.tree.map(_abstract, _trees(like))
        for name, tree in wanted.items():
            _check_members(self.folder / str(step), name, tree)
        restored = self._orbax.load_checkpointables(step, {**wanted, "data": _Place(iterator)})
        return TrainState(params=restored["params"], **restored["optimizer"])


class _Place:
    """The place in the stream of batches, for Orbax.

    All hosts run the same stream, so it is written once; Grain itself would write a file a host, which no
    other number of hosts could read.
    """

    _FILE = "place.json"

    def __init__(self, iterator: Any):
        self._iterator = iterator

    async def save(self, directory: Any) -> Coroutine[None, None, None]:
        state = json.dumps(self._iterator.get_state())

        async def write() -> None:
            path = await directory.await_creation() / self._FILE
            if hosts.is_first():
                path.write_text(state)

        return write()

    async def load(self, directory: Any) -> Coroutine[None, None, None]:
        async def read() -> None:
            self._iterator.set_state(json.loads((directory / self._FILE).read_text()))

        return read()


def steps_in(folder: Path) -> list[int]:
    """The saved steps of a run, rising; unfinished saves do not count."""
    names = [path for path in Path(folder).glob("*") if path.name.isdigit()]
    return sorted(int(path.name) for path in names if _is_complete(path))


def saved_shapes(folder: Path, step: int) -> dict[str, tuple[int, ...]]:
    """Paths and shapes of the trainable parameters in a checkpoint, without reading them."""
    chosen = Path(folder).resolve() / str(step)
    return _shapes(ocp.metadata(chosen, checkpointable_name="params").metadata)


def saved_settings(folder: Path) -> dict:
    """The settings of the run that a folder belongs to; empty where parameters alone were saved."""
    return files.read_json(Path(folder) / _BASE)["settings"]


def load_params(folder: Path, base: Base, *, step: int | None = None) -> Params:
    """The trainable parameters of a run, on the devices where `base.params` lie.

    Args:
      folder: a run's folder of checkpoints, or a folder that `save_params` wrote.
      base: the model that was tuned.
      step: optimizer step of the checkpoint; None for the newest.

    Raises:
      UserError: there is no such checkpoint, it belongs to another base model, or it holds other members.
    """
    folder = Path(folder).resolve()
    steps = steps_in(folder)
    if not steps or (step is not None and step not in steps):
        what = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        raise UserError(f"{folder}: {what}; there are {steps or 'none'}. Run the unlearn stage first")
    _check_base(folder, base)
    chosen = folder / str(steps[-1] if step is None else step)
    wanted = jax.tree.map(_abstract, base.params)
    _check_members(chosen, "params", wanted)
    return ocp.load(chosen, wanted, checkpointable_name="params")


def save_params(folder: Path, params: Params, base: Base) -> None:
    """Writes parameters alone, as step 0 of a folder that appears when it is whole."""
    with files.replacing(Path(folder).resolve()) as draft:
        _claim(draft, base, {})
        ocp.save_checkpointables(draft / "0", {"params": params})


def _trees(state: TrainState) -> dict[str, Any]:
    return {
        "params": state.params,
        "optimizer": {"opt_state": state.opt_state, "step": state.step, "rng": state.rng},
    }


def _abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _claim(folder: Path, base: Base, settings: dict) -> None:
    """Records base and settings in a new folder; refuses a folder that records others."""
    path = folder / _BASE
    mark = {"id": base.folder.name, "hash": base.content_hash, "settings": settings}

    def claim() -> None:
        if not path.exists():
            files.write_json(path, mark)

    hosts.first_only(claim, "claim a folder of checkpoints")
    _check_base(folder, base)
    there = files.read_json(path)["settings"]
    if there != json.loads(json.dumps(settings)):
        keys = sorted(key for key in {*there, *settings} if there.get(key) != settings.get(key))
        raise UserError(
            f"{folder}: its run had other settings ({', '.join(keys)}); remove the folder or choose another"
        )


def _check_base(folder: Path, base: Base) -> None:
    there = files.read_json(folder / _BASE)
    if there["hash"] != base.content_hash:
        raise UserError(
            f"{folder}: made from the base model {there['id']} ({there['hash'][:12]}), not from "
            f"{base.folder.name} ({base.content_hash[:12]}); give the model that it was made from"
        )


def _is_complete(step: Path) -> bool:
    try:
        return json.loads((step / _META).read_text())["commit_timestamp_nsecs"] is not None
    except (OSError, ValueError, KeyError):
        return False


def _remove_incomplete(folder: Path) -> None:
    for path in folder.iterdir():
        if ".orbax-checkpoint-tmp" in path.name or (path.name.isdigit() and not _is_complete(path)):
            logging.warning(
                "%s: left by an interrupted save; removed, the checkpoint before it is used", path
            )
            files.remove(path)


def _check_members(step: Path, name: str, wanted: Any) -> None:
    """Compares names and shapes; Orbax would refuse too, but not say which ones differ."""
    there = _shapes(ocp.metadata(step, checkpointable_name=name).metadata)
    # A PRNG key is stored as the integers behind it.
    here = _shapes(jax.eval_shape(lambda tree: jax.tree.map(_raw, tree), wanted))
    faults = [
        *(f"{path} is missing" for path in here if path not in there),
        *(f"{path} is not expected" for path in there if path not in here),
        *(
            f"{path} has shape {list(there[path])}, expected {list(shape)}"
            for path, shape in here.items()
            if path in there and there[path] != shape
        ),
    ]
    if faults:
        raise UserError(f"{step / name}: does not fit this run: {'; '.join(faults)}")


def _raw(x: jax.Array) -> jax.Array:
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves
    }
