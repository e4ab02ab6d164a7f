"""Ray Data as the engine: batches go to workers on many machines and come back in order.

Each worker loads the model once and runs whole batches as the local engine does, so the records are the same.
A cluster that runs already is joined (Ray finds it by RAY_ADDRESS, or on this machine); else one is started
here. There is one worker a GPU, or one a machine where there are none. All machines must see the images, and
a local model folder, at the same path.
"""

import json
import logging
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, cast

import ray
import ray.data

from sare_jax.curation.clip import Clip, ClipConfig
from sare_jax.curation.scored import Batch, Job, Plan, Scorer
from sare_jax.errors import UserError

_AHEAD = 2  # batches that wait at a worker, so that it never waits itself


def on_ray(scorer: Scorer, batches: Sequence[Batch]) -> Iterator[list[dict]]:
    """Yields the records of each batch, in order, as the workers finish them.

    Raises:
      UserError: a worker does not see the images or the model, or has other weights.
    """
    with _cluster(), _ordered():
        workers = _workers(scorer.clip.config.device)
        rows = [{"batch": json.dumps([astuple(job) for job in batch])} for batch in batches]
        plan = replace(scorer.plan, images=scorer.plan.images.resolve())
        config = replace(_absolute(scorer.clip.config), device=workers.device)
        features = ray.put(scorer.phrases)  # once for all workers; kept by this name while they work
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            cast(Any, _Worker),  # Ray's types know functions alone
            fn_constructor_args=(config, scorer.clip.weights_hash, plan, [features]),
            compute=ray.data.ActorPoolStrategy(size=workers.count, max_tasks_in_flight_per_actor=_AHEAD),
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
        )
        for row in results.iter_rows():
            if row["refused"]:
                raise UserError(row["refused"])
            yield json.loads(row["records"])


class _Worker:
    """The model on one machine. A `UserError` goes back as text, since Ray would retry and wrap it."""

    def __init__(self, config: ClipConfig, weights_hash: str, plan: Plan, phrases: list[ray.ObjectRef]):
        self._refused = ""
        try:
            clip = _checked(config, weights_hash, plan)
        except UserError as error:
            self._refused = _told(error)
        else:
            self._scorer = Scorer(clip, plan, ray.get(phrases[0]))

    def __call__(self, row: dict) -> dict:
        if self._refused:
            return {"records": "", "refused": self._refused}
        batch = [Job(image, tuple(map(tuple, phrases))) for image, phrases in json.loads(row["batch"])]
        try:
            return {"records": json.dumps(next(self._scorer.run([batch]))), "refused": ""}
        except UserError as error:
            return {"records": "", "refused": _told(error)}


def _checked(config: ClipConfig, weights_hash: str, plan: Plan) -> Clip:
    if not plan.images.is_dir():
        raise UserError(f"{plan.images}: no such image folder; every machine must see it at this path")
    clip = Clip(config)
    if clip.weights_hash != weights_hash:
        raise UserError(f"{config.model}: other weights than where the run was started; use the same files")
    return clip


def _told(error: UserError) -> str:
    return f"on machine {socket.gethostname()}: {error}"


@dataclass(frozen=True)
class _Workers:
    """Number of workers, CPU cores and GPUs of each, and the device that each computes on."""

    count: int
    cpus: int
    gpus: int
    device: str


def _workers(device: str) -> _Workers:
    """One worker a GPU, with its share of the cores; without GPUs one a machine, with all its cores."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpus = [m for m in machines if m.get("GPU", 0) >= 1]
    if with_gpus and device != "cpu":
        cpus = min(m.get("CPU", 1) // m["GPU"] for m in with_gpus)
        return _Workers(sum(int(m["GPU"]) for m in with_gpus), max(int(cpus), 1), 1, "auto")
    if device.startswith("cuda"):
        raise UserError(f"--device {device}: no machine of the Ray cluster has a GPU")
    cores = [int(m["CPU"]) for m in machines if m.get("CPU", 0) >= 1]
    if not cores:
        raise UserError("the Ray cluster has no CPU to work on; start its machines with ray start --num-cpus")
    return _Workers(len(cores), min(cores), 0, "cpu")


def _absolute(config: ClipConfig) -> ClipConfig:
    """The same model with absolute paths, for a process with another working directory."""
    folder = Path(config.model.removeprefix("local-dir:"))
    model = f"local-dir:{folder.resolve()}" if folder.is_dir() else config.model
    weights = Path(config.pretrained)
    return replace(
        config, model=model, pretrained=str(weights.resolve()) if weights.is_file() else config.pretrained
    )


@contextmanager
def _cluster() -> Iterator[None]:
    """Joins or starts a cluster and leaves it at the end; does neither where this process has one already."""
    if ray.is_initialized():
        yield
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    ray.init(log_to_driver=False, logging_level=logging.ERROR)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own ends the process without a word
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _ordered() -> Iterator[None]:
    """Makes Ray Data keep the order and print nothing, and restores the caller's settings afterwards."""
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.execution_options.preserve_order, context.enable_progress_bars, log.level
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = before[:2]
        log.setLevel(before[2])
