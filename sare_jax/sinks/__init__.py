"""Programs that draw training curves and metrics, such as TensorBoard.

`config.log.sinks` names those that get them, besides the workdir's own files. Each run has a folder, such as
`WORKDIR/tensorboard/RUN`. What it holds is made anew whenever a run begins, goes on or is measured, from the
same records as `logs/RUN.jsonl` and `metrics/RUN/*.json`, so no step is there twice, however often a run was
interrupted.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.extensions import resolve

__all__ = ["KEY", "SINKS", "Sink", "Target", "Write", "folder_name", "opened", "sink_named"]

SINKS = {
    "tensorboard": "sare_jax.sinks.tensorboard:tensorboard",
    "wandb": "sare_jax.sinks.wandb:wandb",
}
"""Short name → `module:name` of a `Sink`."""
KEY = "config.log.sinks"


@dataclass(frozen=True)
class Target:
    """One run, as a sink shows it.

    Attributes:
      folder: where the sink keeps its files; not there yet.
      experiment: the config's name.
      run: the run's name.
      label: its name in tables.
      settings: JSON-able settings of the run.
    """

    folder: Path
    experiment: str
    run: str
    label: str
    settings: Mapping[str, Any]


Write = Callable[[int, Mapping[str, float]], None]
"""Takes an optimizer step, never lower than the one before, and numbers by name."""
Sink = Callable[[Target], AbstractContextManager[Write]]
"""Opens a run's place in a sink; leaving the context closes it."""


def sink_named(name: str) -> Sink:
    """The sink of a short name or `module:name`.

    Raises:
      UserError: there is none, or its package is not installed; names the extra.
    """
    return resolve(name, SINKS, KEY)


def folder_name(name: str) -> str:
    """The folder of a sink in a workdir; of `module:name`, the name."""
    return name.rpartition(":")[2]


@contextmanager
def opened(name: str, target: Target) -> Iterator[Write]:
    """Opens a sink for one run, without what an earlier call left there.

    Raises:
      UserError: there is no such sink.
    """
    sink = sink_named(name)
    files.remove(target.folder)
    with sink(target) as write:
        yield write
