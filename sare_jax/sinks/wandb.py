"""Weights & Biases: offline unless WANDB_MODE says otherwise; `wandb sync FOLDER` sends what was kept.

A run has the same id whenever it is written with the same settings, so what is sent twice is one run there.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import wandb as library

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.sinks import KEY, Target, Write

__all__ = ["wandb"]


@contextmanager
def wandb(target: Target) -> Iterator[Write]:
    """Logs numbers by step to one run of the project that is named after the experiment.

    Raises:
      UserError: W&B refuses, as where WANDB_MODE=online finds no key.
    """
    target.folder.mkdir(parents=True)
    os.environ.setdefault("WANDB_MODE", "offline")
    try:
        run = library.init(
            project=target.experiment,
            id=files.hash_value([str(target.folder.resolve()), dict(target.settings)])[:16],
            name=target.label,
            config={"run": target.run, **target.settings},
            dir=str(target.folder),
            resume="allow",
            settings=library.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
    except library.Error as error:
        raise UserError(f"{KEY}: wandb: {' '.join(str(error).split())}") from None

    def write(step: int, values: Mapping[str, float]) -> None:
        run.log(dict(values), step=step)

    status = 1
    try:
        yield write
        status = 0
    finally:
        run.finish(exit_code=status)  # leaving the run as a context would print the traceback of a Ctrl-C
        library.teardown()  # the end of a run alone does not wait for its last bytes
