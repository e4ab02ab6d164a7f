"""The road: stages in order, each skipped when its artifact still matches what it was made from."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from absl import logging

from sare_jax import disk, files, hosts, progress
from sare_jax.errors import UserError
from sare_jax.unwritable import writing


@dataclass(frozen=True)
class Task:
    """A piece of work whose outputs follow from its inputs.

    Attributes:
      name: path-like name, unique in a workdir: `evaluate/sare/origin`.
      inputs: JSON-able description of everything that the outputs depend on: settings, and content hashes of
        the artifacts that are read.
      outputs: files or folders that `run` makes, each whole or absent.
      run: does the work. It may leave files in `scratch` and find them again after an interruption.
      scratch: files or folders that hold unfinished work; removed when the inputs have changed meanwhile.
      on: which of several hosts run it: the `first` alone, or `all` where it computes on the devices of all.
    """

    name: str
    inputs: dict
    outputs: tuple[Path, ...]
    run: Callable[[], None]
    scratch: tuple[Path, ...] = ()
    on: Literal["first", "all"] = "first"


class Ledger:
    """Remembers, in `<workdir>/records`, what each task was made from and what came out.

    Attributes:
      executed: names of the tasks that ran in this invocation.
      took: what each of its stages took.
    """

    def __init__(self, workdir: Path):
        self._folder = Path(workdir) / "records"
        self.executed: list[str] = []
        self.took: list[Took] = []

    def _stands(self, task: Task, record: dict) -> bool:
        """Whether the outputs stand as a finished run with the same inputs left them."""
        outputs = record.get("outputs")
        return (
            record.get("status") == "done"
            and record.get("key") == files.hash_value(task.inputs)
            and isinstance(outputs, dict)
            and all(path.exists() and outputs.get(path.name) == files.digest(path) for path in task.outputs)
        )

    def is_done(self, name: str) -> bool:
        """Whether a task of that name was finished once, whatever became of its inputs since."""
        return self._read(name).get("status") == "done"

    def seconds(self, name: str) -> float | None:
        """What a finished task took; of one that was interrupted its last call. None where it never ended."""
        seconds = self._read(name).get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    def execute(self, task: Task) -> None:
        """Runs the task unless it is current.

        Unfinished work is kept when the inputs are the same, so that `run` can go on, and removed when they
        differ. Finished outputs are only replaced by new ones.

        Raises:
          WriteError: the disk is full, or cannot be written to; the next call goes on.
        """
        # Between the two barriers nobody writes, so that all hosts find the same.
        hosts.barrier(f"{task.name} asked")
        record = self._read(task.name)
        current = self._stands(task, record)
        hosts.barrier(f"{task.name} answered")
        if current:
            logging.info("%s: up to date", task.name)
            return
        logging.info("%s: started", task.name)
        start = time.monotonic()
        with progress.task(task.name):
            self._run(task, record, start)
        self.executed.append(task.name)

    def _run(self, task: Task, record: dict, start: float) -> None:
        hosts.first_only(lambda: self._begin(task, record), f"{task.name} begun")
        with writing(task.outputs[0]):  # whatever of the task's files it is; most name themselves
            if task.on == "all":
                task.run()
                hosts.barrier(f"{task.name} run")
            else:
                hosts.first_only(task.run, f"{task.name} run")
        seconds = time.monotonic() - start
        hosts.first_only(lambda: self._end(task, seconds), f"{task.name} ended")
        logging.info("%s: done in %.1f s", task.name, seconds)

    def _begin(self, task: Task, record: dict) -> None:
        key = files.hash_value(task.inputs)
        if record.get("key") != key:
            for path in task.scratch:
                files.remove(path)
        self._write(task, {"status": "started", "key": key})

    def _end(self, task: Task, seconds: float) -> None:
        for path in task.outputs:
            if not path.exists():
                raise RuntimeError(f"{task.name}: finished without making {path}")
            disk.sync(path)  # what came there otherwise than by `files.settle`
            disk.sync_names(path.parent)
        outputs = {path.name: files.digest(path) for path in task.outputs}
        done = {"status": "done", "key": files.hash_value(task.inputs), "outputs": outputs}
        self._write(task, done | {"seconds": round(seconds, 2), "inputs": task.inputs})

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read(self, name: str) -> dict:
        """A task's record; empty where there is none that can be read, so that the task is done again."""
        path = self._path(name)
        if not path.exists():
            return {}
        try:
            record = files.read_json(path)
        except UserError as error:
            logging.warning("%s; the task is done again", error)
            return {}
        if isinstance(record, dict):
            return record
        logging.warning("%s: holds no record; the task is done again", path)
        return {}

    def _write(self, task: Task, record: dict) -> None:
        path = self._path(task.name)
        if path.is_dir():  # which `_read` has told of
            files.remove(path)
        files.write_json(path, record)


@dataclass(frozen=True)
class Took:
    """What a stage took in this invocation.

    Attributes:
      stage: its name.
      tasks: how many of its tasks ran; those that were up to date do not count.
      wall: seconds.
      cpu: seconds of all processor cores, in this process and those that it waited for.
    """

    stage: str
    tasks: int
    wall: float
    cpu: float


def run(stages: Mapping[str, Callable[[], Iterator[Task]]], names: tuple[str, ...], ledger: Ledger) -> None:
    """Executes the tasks of the named stages in order.

    Args:
      stages: name → function that yields the stage's tasks. A task is executed before the next is asked for,
        so later ones may describe themselves by artifacts of earlier ones.
      names: stages to run.
      ledger: records of the workdir; is told what each stage took.
    """
    for number, name in enumerate(names, start=1):
        before, start, busy = len(ledger.executed), time.monotonic(), _cpu()
        with progress.stage(name, f"({number} of {len(names)})"):
            for task in stages[name]():
                ledger.execute(task)
            done = Took(name, len(ledger.executed) - before, time.monotonic() - start, _cpu() - busy)
            what = f"{done.tasks} task{'s' if done.tasks != 1 else ''} in {done.wall:.0f} s"
            said = f"[{name}] {what if done.tasks else 'up to date'}"
            progress.say("stage_done", said, **dataclasses.asdict(done))
        ledger.took.append(done)


def _cpu() -> float:
    """Processor seconds that this process and its finished children have used."""
    return sum(os.times()[:4])


def require(path: Path, stage: str) -> Path:
    """Returns `path`, which an earlier stage has to have made.

    Raises:
      UserError: it is not there; names the stage to run first.
    """
    if not path.exists():
        raise UserError(f"{path}: not there; run the stage {stage!r} first (--config.stages={stage},…)")
    return path
