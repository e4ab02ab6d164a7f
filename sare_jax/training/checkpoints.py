"""Checkpoints of a run, the one place that knows Orbax (its v1 interface).

A folder holds one sub-folder a saved step, with `params` (the trainable parameters), `optimizer` (its state,
the step and the PRNG key) and `about` (see `sare_jax.training.about`): whose it is, hashes of the values, the
place in the stream of batches, and the training log. The base model's weights are not in it: its name and
content hash are, and another base is refused. Several hosts make and use `Checkpoints` together, on a file
system that all of them see.
"""

import functools
import json
import os
from logging import ERROR, LogRecord
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging
from orbax.checkpoint import v1 as ocp

from sare_jax import files, hosts
from sare_jax.errors import UserError
from sare_jax.models.shared import lora, partition
from sare_jax.schema import whole_number
from sare_jax.training import about
from sare_jax.training.about import About
from sare_jax.training.state import Params, TrainState

_META = "_CHECKPOINT_METADATA"  # Orbax stamps it with the time of completion as its last act


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
    with a warning, when the folder is next opened. A damaged checkpoint is removed likewise, when the folder
    is opened or the checkpoint restored. An older checkpoint goes only when a newer one is whole.
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
        self._base, self._settings = base, json.loads(json.dumps(settings or {}))
        hosts.first_only(lambda: _remove_unusable(self.folder), "remove unusable checkpoints")
        if steps := steps_in(self.folder):
            _check_owner(self.folder, about.read(self.folder / str(steps[-1])), base, self._settings)
        policies = ocp.training.preservation_policies
        logging.get_absl_logger().addFilter(_is_told_here_alone)
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

    def save(self, step: int, state: TrainState, iterator: Any, log: str = "") -> None:
        """Starts saving; returns when the state may be changed or donated.

        Args:
          step: finished steps, `state.step`.
          state: what is saved: parameters, optimizer, step and PRNG key.
          iterator: a Grain iterator, or any object with its JSON-able `get_state` and `set_state`.
          log: the training log up to here.

        Raises:
          Exception: the error with which the *previous* save failed in the background.
        """
        if step == self.latest:
            return
        self.wait()
        trees = _trees(state)
        facts = about.about(self._base, self._settings, trees, iterator.get_state(), log)
        self._pending = self._orbax.save_checkpointables_async(step, {**trees, about.NAME: facts}, force=True)

    def wait(self) -> None:
        """Waits for the running save; raises the error with which it failed, if it did."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def restore(self, like: TrainState, iterator: Any) -> tuple[TrainState, str]:
        """Reads the newest sound checkpoint; newer ones that are damaged are removed, with a warning.

        Args:
          like: a state of the same structure, whose arrays lie on the devices on which the restored ones
            shall.
          iterator: the stream of batches; it is set to the saved place.

        Returns:
          The state, and the training log up to it; `like` and "" where no checkpoint is sound.

        Raises:
          UserError: the saved state has other members or shapes; lists them.
        """
        wanted = jax.tree.map(_abstract, _trees(like))
        while (step := self.latest) is not None:
            folder = self.folder / str(step)
            facts, trees, fault = _read_sound(folder, wanted)
            if not hosts.anywhere(bool(fault)):
                assert facts is not None  # or there is a fault
                iterator.set_state(facts.place)
                return TrainState(params=trees["params"], **trees["optimizer"]), about.log_of(folder)
            logging.warning("%s: damaged (%s); removed, an earlier one is used", folder, fault or "elsewhere")
            hosts.first_only(functools.partial(files.remove, folder), "remove a damaged checkpoint")
            self._orbax.reload()
        return like, ""


def _is_told_here_alone(record: LogRecord) -> bool:
    """Whether a line of the log is none that Orbax's threads write of an error, which is raised here too."""
    return not (record.levelno >= ERROR and f"{os.sep}orbax{os.sep}" in record.pathname)


def steps_in(folder: Path) -> list[int]:
    """The saved steps of a run, rising; unfinished saves do not count."""
    steps = {whole_number(path.name): path for path in Path(folder).glob("*")}
    return sorted(step for step, path in steps.items() if step is not None and _is_complete(path))


def saved_shapes(folder: Path, step: int) -> dict[str, tuple[int, ...]]:
    """Paths and shapes of the trainable parameters in a checkpoint, without reading them."""
    members = about.read(Path(folder) / str(step)).members["params"]
    return {path: tuple(shape) for path, shape in members.items()}


def saved_settings(folder: Path) -> dict:
    """The settings of the run that a folder belongs to; empty where parameters alone were saved."""
    return about.read(Path(folder) / str(steps_in(folder)[-1])).settings


def saved_hash(folder: Path, step: int) -> str:
    """Hash of the trainable parameters in a checkpoint, the same for equal values, without reading them."""
    return about.read(Path(folder) / str(step)).values["params"]


def load_params(folder: Path, base: Base, *, step: int | None = None) -> Params:
    """The trainable parameters of a run, on the devices where `base.params` lie.

    Adapters that an attack has put beside them (`models.shared.lora`) come with them.

    Args:
      folder: a run's folder of checkpoints, or a folder that `save_params` wrote.
      base: the model that was tuned.
      step: optimizer step of the checkpoint; None for the newest.

    Raises:
      UserError: there is no such checkpoint, it is damaged, it belongs to another base model, or it holds
        other members.
    """
    folder = Path(folder).resolve()
    steps = steps_in(folder)
    if not steps or (step is not None and step not in steps):
        what = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        raise UserError(f"{folder}: {what}; there are {steps or 'none'}. Run the unlearn stage first")
    chosen = folder / str(steps[-1] if step is None else step)
    facts = about.read(chosen)
    _check_base(folder, facts, base)
    wanted = partition.flatten(jax.tree.map(_abstract, base.params))
    place = next(iter(wanted.values())).sharding
    wanted |= {
        path: jax.ShapeDtypeStruct(tuple(shape), np.float32, sharding=place)
        for path, shape in facts.members["params"].items()
        if lora.is_adapter(path)
    }
    _, trees, fault = _read_sound(chosen, {"params": partition.unflatten(wanted)})
    if fault:
        raise UserError(f"{chosen}: damaged ({fault}); run the stage that made it again")
    return trees["params"]


def save_params(folder: Path, params: Params, base: Base) -> None:
    """Writes parameters alone, as step 0 of a folder that appears when it is whole."""
    with files.replacing(Path(folder).resolve()) as draft:
        trees = {"params": params}
        ocp.save_checkpointables(draft / "0", {**trees, about.NAME: about.about(base, {}, trees)})


def _trees(state: TrainState) -> dict[str, Any]:
    return {
        "params": state.params,
        "optimizer": {"opt_state": state.opt_state, "step": state.step, "rng": state.rng},
    }


def _abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _read_sound(step: Path, wanted: dict[str, Any]) -> tuple[About | None, dict[str, Any], str]:
    """What a checkpoint says of itself, its trees, and what is wrong with it, empty for nothing.

    Raises:
      UserError: it is sound as far as can be seen, and holds other members than are wanted.
    """
    try:
        facts = about.read(step)
    except UserError as error:
        return None, {}, str(error)
    for name, tree in wanted.items():
        _check_members(step / name, facts.members[name], about.shapes(tree))
    try:
        trees = ocp.load_checkpointables(step, wanted)
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise  # nothing that the checkpoint could do about
    except Exception as error:  # a damaged file raises whatever its broken part leads to
        return facts, {}, f"{type(error).__name__}: {str(error)[:200]}"
    changed = about.changed(facts, trees)
    return facts, trees, f"values of {', '.join(changed)} changed since they were written" if changed else ""


def _check_owner(folder: Path, facts: About, base: Base, settings: dict) -> None:
    """Refuses a folder of another base model or other settings."""
    _check_base(folder, facts, base)
    if (there := facts.settings) != settings:
        keys = sorted(key for key in {*there, *settings} if there.get(key) != settings.get(key))
        raise UserError(
            f"{folder}: its run had other settings ({', '.join(keys)}); remove the folder or choose another"
        )


def _check_base(folder: Path, facts: About, base: Base) -> None:
    if facts.base["hash"] != base.content_hash:
        raise UserError(
            f"{folder}: made from the base model {facts.base['id']} ({facts.base['hash'][:12]}), not from "
            f"{base.folder.name} ({base.content_hash[:12]}); give the model that it was made from"
        )


def _is_complete(step: Path) -> bool:
    try:
        return files.read_json(step / _META)["commit_timestamp_nsecs"] is not None
    except (UserError, KeyError, TypeError):
        return False


def _remove_unusable(folder: Path) -> None:
    """Removes what interrupted saves left, and checkpoints that do not say what they are."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if ".orbax-checkpoint-tmp" in path.name or (path.name.isdigit() and not _is_complete(path)):
            logging.warning(
                "%s: left by an interrupted save; removed, the checkpoint before it is used", path
            )
            files.remove(path)
        elif path.name.isdigit():
            try:
                about.read(path)
            except UserError as error:
                logging.warning("%s; the checkpoint is removed, an earlier one is used", error)
                files.remove(path)


def _check_members(where: Path, there: dict[str, list[int]], here: dict[str, tuple[int, ...]]) -> None:
    """Compares names and shapes; Orbax would refuse too, but not say which ones differ."""
    faults = [
        *(f"{path} is missing" for path in here if path not in there),
        *(f"{path} is not expected" for path in there if path not in here),
        *(
            f"{path} has shape {there[path]}, expected {list(shape)}"
            for path, shape in here.items()
            if path in there and there[path] != list(shape)
        ),
    ]
    if faults:
        raise UserError(f"{where}: does not fit this run: {'; '.join(faults)}")
