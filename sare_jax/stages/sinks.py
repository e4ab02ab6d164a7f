"""Training curves and metrics of runs, handed to the sinks that the config names."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sare_jax import files, hosts, sinks
from sare_jax.config import BASE_RUN, ORIGIN
from sare_jax.pipeline import Task
from sare_jax.report.measures import all_measures, benchmarks_in, value
from sare_jax.sinks import Target, Write
from sare_jax.stages.context import Context
from sare_jax.stages.report import spec_for

OnLog = Callable[[Sequence[dict[str, Any]]], None]
"""Takes records of a training log, in order and each once."""


@contextmanager
def live(context: Context, run: str) -> Iterator[OnLog]:
    """Hands the records of a training log on as they come; on the first of several hosts alone."""
    with ExitStack() as stack:
        names = context.config.log.names if hosts.is_first() else ()
        writers = [stack.enter_context(sinks.opened(name, _target(context, name, run))) for name in names]

        def on_log(records: Sequence[dict[str, Any]]) -> None:
            for write in writers:
                _write_curve(write, records)

        yield on_log


def tasks(context: Context) -> Iterator[Task]:
    """Writes each run anew, with its curve and with its metrics under all settings."""
    for run in (BASE_RUN, *context.config.runs):
        read = [path for path in (context.log(run), *_metrics(context, run).values()) if path.exists()]
        for name in context.config.log.names:
            target = _target(context, name, run)
            yield Task(
                name=f"sinks/{sinks.folder_name(name)}/{run}",
                inputs={
                    "read": {str(path.relative_to(context.workdir)): files.digest(path) for path in read},
                    "sink": name,
                    "label": target.label,
                    "settings": dict(target.settings),
                },
                outputs=(target.folder,),
                run=partial(_write, context, name, target),
            )


def _target(context: Context, name: str, run: str) -> Target:
    settings = {} if run == BASE_RUN else dataclasses.asdict(context.config.runs[run])
    return Target(
        context.workdir / sinks.folder_name(name) / run,
        context.config.name,
        run,
        context.config.run_labels[run],
        settings,
    )


def _metrics(context: Context, run: str) -> dict[str, Path]:
    """Setting → the file of a run's metrics under it."""
    return {name: context.metrics(run, name) for name in (ORIGIN, *context.config.attacks)}


def _write(context: Context, name: str, target: Target) -> None:
    with sinks.opened(name, target) as write:
        log = context.log(target.run)
        records = files.read_jsonl(log) if log.exists() else []
        _write_curve(write, records)
        last = records[-1]["step"] if records else 0
        for setting, path in _metrics(context, target.run).items():
            if path.exists():
                write(last, {f"{setting}/{key}": number for key, number in _numbers(context, path).items()})


def _write_curve(write: Write, records: Sequence[dict[str, Any]]) -> None:
    for record in records:
        numbers = {f"train/{key}": number for key, number in record.items() if number is not None}
        write(record["step"], {key: number for key, number in numbers.items() if key != "train/step"})


def _numbers(context: Context, path: Path) -> dict[str, float]:
    """The numbers that a report shows of a metrics file, in its units."""
    spec, result = spec_for(context.config), files.read_json(path)
    columns = {m.result_name: m for benchmark in benchmarks_in(spec) for m in benchmark.columns}
    found = {
        key: value(result, measure, str(path)).number
        for key, measure in (all_measures(spec) | columns).items()
    }
    return {key: number for key, number in found.items() if number is not None}
