"""Checkpoints of a run: the only module that knows Orbax.

A checkpoint holds what changes (trainable parameters, optimizer state, step, rng, data iterator) and names
the base model that it belongs to; the base weights are not in it. Orbax writes to a temporary folder and
renames it, so a save that was cut off is never taken for the latest one.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from sare_jax.errors import UserError
from sare_jax.models.load import LoadedLlava
from sare_jax.training.state import Params, TrainState

_PARAMS, _REST, _DATA = "params", "rest", "data"


class Checkpoints:
    """The checkpoints of one run.

    Saves are asynchronous; an error in one surfaces at the next save or at `close`. Use as a context manager.
    """

    def __init__(self, folder: Path, base_hash: str, *, every: int = 0, keep: int | None = None):
        """Opens the folder, making it where there is none; folders of interrupted saves are removed.

        Args:
          folder: of the run.
          base_hash: content hash of the base model.
          every: steps between saves; 0 saves only what is forced.
          keep: how many of the latest are kept; None keeps all.

        Raises:
          UserError: the checkpoints there belong to another base model.
        """
        self.folder = Path(folder).resolve()
        policies = ocp.training.save_decision_policies
        preservation = ocp.training.preservation_policies
        decide = [policies.PreemptionCheckpointingPolicy()]
        if every:
            decide.append(policies.FixedIntervalPolicy(every))
        self._checkpointer = ocp.training.Checkpointer(
            self.folder,
            save_decision_policy=policies.AnySavePolicy(decide),
            preservation_policy=preservation.LatestN(keep) if keep else preservation.PreserveAll(),
            custom_metadata={"base": base_hash},
            cleanup_tmp_directories=True,
        )
        _check_base(self._checkpointer, base_hash)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the save in progress; raises what went wrong in it."""
        self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, ascending."""
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    def due(self, step: int) -> bool:
        """Whether `save` would save at this step without being forced."""
        return self._checkpointer.should_save(step)

    def save(self, step: int, state: TrainState, data: Any, *, force: bool = False) -> None:
        """Saves if it is time, or if forced; returns before the files are written.

        Args:
          step: finished optimizer steps.
          state: of the run.
          data: the checkpointable data iterator.
          force: save at any step; nothing happens where that step is there already.
        """
        if step in self.steps:
            return
        values = {_PARAMS: state.params, _REST: _rest(state), _DATA: data}
        self._checkpointer.save_checkpointables_async(step, values, force=force)

    def restore(self, like: TrainState, data: Any) -> TrainState | None:
        """The latest state, placed as `like` is, on any number of devices; None where there is none.

        Args:
          like: a state of the same structure.
          data: an iterator of the same data, which is moved to where the run stood.

        Raises:
          UserError: the checkpoint holds other trees than this run has; names the folder.
        """
        if not self.steps:
            return None
        step = self.steps[-1]
        wanted = {_PARAMS: _abstract(like.params), _REST: _abstract(_rest(like)), _DATA: data}
        found = _load(self._checkpointer, step, wanted)
        return dataclasses.replace(like, params=found[_PARAMS], **found[_REST])


def steps_in(folder: Path) -> list[int]:
    """Steps of the whole checkpoints of a run, ascending."""
    with _opened(folder) as checkpointer:
        return [checkpoint.step for checkpoint in checkpointer.checkpoints]


def load_params(folder: Path, loaded: LoadedLlava, step: int | None = None) -> Params:
    """Trainable parameters of a run.

    Args:
      folder: of the run.
      loaded: the base model; gives structure and placement.
      step: which checkpoint; None is the latest.

    Raises:
      UserError: no such checkpoint, another base model, or other parameters; names the folder.
    """
    with _opened(folder) as checkpointer:
        _check_base(checkpointer, loaded.content_hash)
        steps = [checkpoint.step for checkpoint in checkpointer.checkpoints]
        if not steps or (step is not None and step not in steps):
            wanted = "checkpoint" if step is None else f"checkpoint of step {step}"
            raise UserError(f"{folder}: holds no whole {wanted} (there are {steps}); run the stage 'unlearn'")
        return _load(checkpointer, steps[-1] if step is None else step, {_PARAMS: _abstract(loaded.params)})[
            _PARAMS
        ]


def save_params(folder: Path, params: Params, loaded: LoadedLlava, *, step: int = 0) -> None:
    """Writes trainable parameters alone, in the form that `load_params` reads.

    Args:
      folder: of the run; an earlier one is replaced.
      params: to be written.
      loaded: the base model that they belong to.
      step: under which they are filed.
    """
    ocp_folder = Path(folder).resolve()
    with ocp.training.Checkpointer(
        ocp_folder, custom_metadata={"base": loaded.content_hash}, cleanup_tmp_directories=True
    ) as checkpointer:
        checkpointer.save_checkpointables(step, {_PARAMS: params}, force=True, overwrite=True)


@contextmanager
def _opened(folder: Path) -> Iterator[ocp.training.Checkpointer]:
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no checkpoints there; run the stage 'unlearn'")
    with ocp.training.Checkpointer(Path(folder).resolve()) as checkpointer:
        yield checkpointer


def _rest(state: TrainState) -> dict[str, Any]:
    """What a run carries besides its parameters."""
    return {"step": state.step, "opt_state": state.opt_state, "rng": state.rng}


def _abstract(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def _check_base(checkpointer: ocp.training.Checkpointer, base_hash: str) -> None:
    if not checkpointer.checkpoints:
        return
    found = (checkpointer.root_metadata().custom_metadata or {}).get("base")
    if found != base_hash:
        raise UserError(
            f"{checkpointer.directory}: these checkpoints belong to base model {found}, not to {base_hash}; "
            "use the model they were made from, or another workdir"
        )


def _load(checkpointer: ocp.training.Checkpointer, step: int, wanted: dict[str, Any]) -> dict[str, Any]:
    try:
        return checkpointer.load_checkpointables(step, wanted)
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{checkpointer.directory / str(step)}: not a checkpoint of this run: {reason}"
        ) from None
