"""The stages of the road, one file each. A stage's tasks say what they read, write and depend on."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from sare_jax import files, hosts, pipeline, programs, progress
from sare_jax.config import to_dict
from sare_jax.errors import UserError
from sare_jax.locks import locked
from sare_jax.pipeline import Task
from sare_jax.settings.road import Config
from sare_jax.stages import (
    attack,
    caption,
    curate,
    evaluate,
    export,
    preflight,
    prepare,
    report,
    unlearn,
)
from sare_jax.stages.context import Context

__all__ = ["ON_SEVERAL_HOSTS", "TASKS", "run"]

TASKS: dict[str, Callable[[Context], Iterator[Task]]] = {
    "prepare": prepare.tasks,
    "caption": caption.tasks,
    "curate": curate.tasks,
    "unlearn": unlearn.tasks,
    "evaluate": evaluate.tasks,
    "attack": attack.tasks,
    "export": export.tasks,
    "report": report.tasks,
}

# `unlearn` uses the devices of all hosts; the other two run on the first host while the others wait.
ON_SEVERAL_HOSTS = ("prepare", "curate", "unlearn")


def run(config: Config, workdir: Path) -> pipeline.Ledger:
    """Runs the stages that the config names.

    Args:
      config: all settings; written to `WORKDIR/config.json`.
      workdir: folder into which all stages write; made if missing.

    Returns:
      The ledger: which tasks ran, and what each stage took.

    Raises:
      UserError: a stage cannot run on several hosts, another run is at work in the folder, something is
        missing that a stage will need, or whatever a stage refuses.
    """
    if hosts.several():
        _check_hosts(config.stages)
    context = Context(config, workdir)
    preflight.check(context)
    workdir.mkdir(parents=True, exist_ok=True)
    stages = {name: partial(tasks, context) for name, tasks in TASKS.items()}
    with locked(workdir / ".lock", workdir) if hosts.is_first() else nullcontext():
        hosts.first_only(
            lambda: files.write_json(workdir / "config.json", to_dict(config)), "settings written"
        )
        settings = workdir / "config.json"
        progress.say("workdir", f"workdir {workdir}; settings in {settings}", workdir=str(workdir))
        with programs.kept_in(workdir):
            pipeline.run(stages, config.stages, context.ledger)
    return context.ledger


def _check_hosts(names: tuple[str, ...]) -> None:
    alone = [name for name in names if name not in ON_SEVERAL_HOSTS]
    if alone:
        together = [name for name in names if name in ON_SEVERAL_HOSTS] or ["unlearn"]
        raise UserError(
            f"--num_processes: {', '.join(alone)} cannot run on several processes; choose "
            f"--config.stages={','.join(together)} here, and start the others in one process"
        )
