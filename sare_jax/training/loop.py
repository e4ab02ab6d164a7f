"""The training loop: progress, a metrics log, checkpoints, resuming, and stopping cleanly."""

import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from sare_jax import files, hosts
from sare_jax.errors import Terminated, UserError
from sare_jax.progress import COMPILING, bar
from sare_jax.training.checkpoints import Checkpoints
from sare_jax.training.state import TrainState

Step = Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]
OnLog = Callable[[Sequence[dict[str, Any]]], None]

# The metrics that are shown with the progress → their labels there.
SHOWN = {
    "neg": "L_neg",
    "pos": "L_pos",
    "sent": "L_sent",
    "neg_grad_norm": "‖∇L_neg‖",
    "eps_norm": "‖ε*‖",
    "neg_perturbed": "L_neg(θ+ε*)",
    "loss": "L_ft",
}

# Consecutive skipped steps (`sare_jax.optim.skip_nonfinite`) that a run may have; one more ends it.
MAX_SKIPPED = 5


class NotFiniteError(UserError):
    """A loss, gradient or update was infinite or NaN. Checkpoints from before it are sound.

    A skipped step (metric `skipped_in_a_row` above 0) is no error by itself; more than `MAX_SKIPPED` of them
    in a row are.
    """


def run(
    state: TrainState,
    iterator: Iterator[Any],
    step: Step,
    *,
    steps: int,
    name: str,
    checkpoints: Checkpoints | None = None,
    log_path: Path | None = None,
    fetch_every: int = 10,
    limits: Mapping[str, tuple[float, float]] | None = None,
    on_log: OnLog | None = None,
) -> TrainState:
    """Trains until `steps`, going on from the newest checkpoint where there is one.

    Metrics stay on the device for up to `fetch_every` steps, so that the host need not wait for each step. A
    checkpoint is written only when all metrics until then are finite. Several hosts call this together; the
    first writes the log, and a signal to one of them stops all when metrics are next read.

    Args:
      state: the first state; where a checkpoint is restored, only its structure and placement matter.
      iterator: gives one batch a step; its place in the stream is checkpointed with the state.
      step: (state, batch) → next state and float[] metrics. May donate the state.
      steps: optimizer steps of the whole run, those before a restored checkpoint included.
      name: label of the progress bar and of messages.
      checkpoints: the run's checkpoints; None for a short run that starts anew when interrupted.
      log_path: JSON lines, one a step: {"step", metric: value, …}. A resumed run drops the steps that will
        be run again.
      fetch_every: steps between readings of the metrics.
      limits: metric → (lowest, highest) value; a run that leaves them has collapsed and ends early, after a
        checkpoint. They are checked when metrics are read. Under ascent `neg` falls without bound.
      on_log: takes the records of the log as they come, first those before a restored checkpoint.

    Returns:
      The last state.

    Raises:
      NotFiniteError: a metric is not finite; names the step.
      KeyboardInterrupt: on SIGINT or, as `Terminated`, on SIGTERM, after the step at hand and a checkpoint.
    """
    before = ""
    if checkpoints and checkpoints.latest is not None:
        state, before = checkpoints.restore(state, iterator)
    begun = done = counted = int(state.step)
    log = _Log(log_path if hosts.is_first() else None, before, on_log)
    with _signals() as caught, bar(steps, name, done=done, unit="step", waiting=COMPILING) as progress:
        pending: list[tuple[int, dict[str, jax.Array]]] = []
        while done < steps:
            state, metrics = step(state, next(iterator))
            done += 1
            pending.append((done, metrics))
            if counted == begun:  # the first call returns when its program is compiled
                progress.update(1)
                counted = done
            saving = checkpoints is not None and (done == steps or checkpoints.is_due(done))
            reading = saving or done == steps or done % fetch_every == 0
            # Hosts ask each other only in steps in which they wait for the devices anyway.
            stopping = reading and hosts.anywhere(bool(caught)) if hosts.several() else bool(caught)
            if reading or stopping:
                values, left_out = log.write(pending)
                progress.update(done - counted)
                counted = done
                for number in left_out:
                    progress.write(f"{name}: step {number} left out, something in it was not finite")
                progress.note(_line(values))
                pending = []
                exceeded = _exceeded(values, limits or {})
                if checkpoints and (saving or stopping or exceeded):
                    checkpoints.save(done, state, iterator, log.text)
                if exceeded:
                    progress.write(f"{name}: stopped at step {done}, {exceeded}")
                    break
            if stopping and done < steps:
                kind = Terminated if signal.SIGTERM in caught else KeyboardInterrupt
                raise kind(f"{name}: stopped after step {done}")
    if checkpoints:
        checkpoints.wait()
    return state


class _Log:
    """The metrics log; raises `NotFiniteError` for metrics that are not finite in a step not skipped.

    A resumed run has the lines of its checkpoint, whatever became of the file meanwhile.
    """

    def __init__(self, path: Path | None, before: str, on_log: OnLog | None):
        self._path, self._on_log = path, on_log
        self._parts = [before]
        if path is not None:
            files.write_text(path, before)
        if on_log:
            on_log([json.loads(line) for line in before.splitlines()])

    @property
    def text(self) -> str:
        """All lines so far."""
        return "".join(self._parts)

    def write(
        self, pending: list[tuple[int, dict[str, jax.Array]]]
    ) -> tuple[dict[str, float | None], list[int]]:
        """Appends the metrics of some steps; returns those of the last one, and the numbers of skipped steps.

        Metrics of a skipped step that are not finite are written as null.
        """
        records: list[dict[str, float | None]] = []
        left_out: list[int] = []
        for step, metrics in jax.device_get(pending):
            record = {"step": step, **{key: float(value) for key, value in metrics.items()}}
            wrong = [key for key, value in record.items() if not math.isfinite(value)]
            in_a_row = record.get("skipped_in_a_row", 0)
            if in_a_row > MAX_SKIPPED or (wrong and not in_a_row):
                self._append(records)
                what = ", ".join(wrong) or "gradients"
                many = f", {in_a_row:.0f} steps in a row" if in_a_row else ""
                raise NotFiniteError(
                    f"step {step}: {what} not finite{many}; lower optim.adamw.learning_rate or "
                    "optim.neg_weight. Checkpoints of earlier steps are sound"
                )
            left_out += [step] if in_a_row else []
            records.append(record | dict.fromkeys(wrong))
        self._append(records)
        return records[-1], left_out

    def _append(self, records: list[dict]) -> None:
        text = "".join(files.json_line(record) for record in records)
        self._parts.append(text)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(text)
        if self._on_log:
            self._on_log(records)


def _line(values: Mapping[str, float | None]) -> str:
    shown = {key: values.get(key) for key in SHOWN}
    return " ".join(f"{SHOWN[key]} {value:.3g}" for key, value in shown.items() if value is not None)


def _exceeded(values: Mapping[str, float | None], limits: Mapping[str, tuple[float, float]]) -> str:
    """The first metric outside of its limits, in words; empty where all are inside."""
    for key, (lowest, highest) in limits.items():
        if key not in values:
            raise UserError(f"limits.{key}: no such metric; there are {', '.join(values)}")
        value = values[key]
        if value is not None and not lowest <= value <= highest:
            return f"{key} = {value:.3g} has left [{lowest:g}, {highest:g}]"
    return ""


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The SIGINT and SIGTERM that came; a second one of them acts at once, as it did before."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python delivers signals to the main thread alone
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _frame: object) -> None:
        if caught:
            signal.signal(number, before[signal.Signals(number)])
            os.kill(os.getpid(), number)
        caught.append(number)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
