"""The loop around a compiled step: batches in, metrics logged, checkpoints saved, interruptions survived."""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from sare_jax import files
from sare_jax.inference.features import FeatureCache
from sare_jax.models.llava import Llava
from sare_jax.models.load import merge
from sare_jax.progress import bar
from sare_jax.training.checkpoints import Checkpoints
from sare_jax.training.state import FinetuneHyper, Hyper, Params, TrainState, as_arrays

SHOWN = {
    "neg": "L_neg",
    "pos": "L_pos",
    "sent": "L_sent",
    "neg_grad_norm": "‖∇L_neg‖",
    "eps_norm": "‖ε*‖",
    "neg_perturbed": "L_neg(θ+ε*)",
    "loss": "L_ft",
}


class NotFiniteError(RuntimeError):
    """A loss or gradient is no longer a number. The last checkpoint is from before that step."""


@dataclass(frozen=True)
class ModelOf:
    """Makes the model from its weights; equal for equal structures, which a bound method is not."""

    graphdef: nnx.GraphDef

    def __call__(self, params: Params, frozen: Params) -> Llava:
        """The model with these weights."""
        return merge(self.graphdef, params, frozen)


def run(
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]],
    state: TrainState,
    frozen: Params,
    hyper: Hyper | FinetuneHyper,
    data: Iterator[Any],
    features: FeatureCache,
    *,
    steps: int,
    name: str,
    log: Path | None = None,
    checkpoints: Checkpoints | None = None,
    log_every: int = 10,
) -> TrainState:
    """Trains from `state.step` to `steps`.

    Args:
      step: from `sharding.compile_step`; donates its state.
      state: where to go on.
      frozen: weights that do not change.
      hyper: the step's settings.
      data: batches of `data.batches`, standing where `state` stands.
      features: vision features by file name.
      steps: optimizer steps of the whole run.
      name: what the progress bar says.
      log: JSON lines of metrics, one a step. Lines behind `state.step` are from a run that was cut off and
        are removed.
      checkpoints: where to save; the last step is always saved.
      log_every: steps between two looks at the metrics, which wait for the device.

    Returns:
      The last state.

    Raises:
      NotFiniteError: names step and metric.
      KeyboardInterrupt: on SIGINT or SIGTERM, after the state has been saved.
    """
    start = int(state.step)
    if log is not None:
        _truncate(log, start)
    values, pending = as_arrays(hyper), {}
    with _interruption() as interrupted, bar(steps, name, done=start, unit="step") as progress:
        for number in range(start + 1, steps + 1):
            state, pending[number] = step(state, frozen, attach_features(next(data), features), values)
            last = number == steps or interrupted.is_set()
            if number % log_every == 0 or last or (checkpoints and checkpoints.due(number)):
                _write_metrics(pending, log, progress)
                pending = {}
            progress.update(1)
            if checkpoints is not None:
                checkpoints.save(number, state, data, force=last)
            if interrupted.is_set():
                raise KeyboardInterrupt
    return state


def attach_features(batch: dict[str, Any], features: FeatureCache) -> dict[str, Any]:
    """Replaces file names by vision features, in one set or in each of several."""
    if "image" not in batch:
        return {kind: attach_features(part, features) for kind, part in batch.items()}
    kept = {key: value for key, value in batch.items() if key != "image"}
    return kept | {"features": features([str(name) for name in batch["image"]])}


def _write_metrics(pending: dict[int, dict[str, jax.Array]], log: Path | None, progress: Any) -> None:
    records = [
        {"step": number, **{key: float(value) for key, value in metrics.items()}}
        for number, metrics in jax.device_get(pending).items()
    ]
    for record in records:
        for key, value in record.items():
            if not math.isfinite(value):
                raise NotFiniteError(
                    f"step {record['step']}: {key} is {value}; the last checkpoint is good. Lower the "
                    "learning rate, rho or neg_weight, then run again"
                )
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            stream.writelines(map(files.json_line, records))
    shown = [f"{label} {records[-1][key]:.3g}" for key, label in SHOWN.items() if key in records[-1]]
    progress.set_postfix_str(", ".join(shown), refresh=False)


def _truncate(log: Path, step: int) -> None:
    """Keeps the lines up to `step`; a line that was cut off goes, too."""
    if not log.is_file():
        return
    whole = log.read_text(encoding="utf-8").split("\n")[:-1]
    files.write_text(log, "".join(f"{line}\n" for line in whole[:step]))


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal ends the process as usual."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    previous = {}

    def note(number: int, _: Any) -> None:
        interrupted.set()
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield interrupted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def placed_as(like: Params, params: Params) -> Params:
    """`params` where `like` lies, e.g. on the one device that generation uses."""
    return jax.tree.map(lambda x, y: jax.device_put(x, y.sharding), params, like)
