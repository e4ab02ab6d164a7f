"""Command line: `python -m sare_jax.reproduce NAME … [--config FILE] [--workdir FOLDER]`."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from sare_jax.command import called, config_dict
from sare_jax.config import parse
from sare_jax.errors import UserError
from sare_jax.extensions import resolve
from sare_jax.reproduce import EXPERIMENTS
from sare_jax.run import (
    CONFIG,
    COORDINATOR,
    NUM_PROCESSES,
    PLAN,
    PLAN_DEVICES,
    PROCESS_ID,
    RUN,
    WORKDIR,
    call,
    display,
)

USAGE = """\
usage: {called} NAME … [--seeds N] [--config FILE] [--workdir FOLDER] [--config.KEY=VALUE …]

Makes the paper's tables and figures through the stages, and writes WORKDIR/reproduce/NAME.html, .md, .tex,
.csv and .svg. Without --config it is configs/demo_baselines.py. With --seeds the tables and fig4 train each
run so many times and show means, with intervals over seeds and images.

  all      every one of these
"""
DEFAULT = "demo_baselines"
SEEDS = flags.DEFINE_integer("seeds", 1, "Training seeds of each run of a table.", lower_bound=1)


def main(arguments: Sequence[str]) -> None:
    """Runs one command line, and exits."""
    names = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    options = list(arguments[len(names) :])
    if not names or "--help" in options or "-h" in options:
        print(
            USAGE.format(called=called("python -m sare_jax.reproduce"))
            + "".join(f"  {name:<8} {_experiment(name).title}\n" for name in EXPERIMENTS),
            end="",
        )
        raise SystemExit(0 if {"--help", "-h"} & set(options) else 2)
    if not any(option.partition("=")[0].lstrip("-") == "config" for option in options):
        options.insert(0, f"--config={DEFAULT}")  # before its keys, which are set in what stands before them
    call(options, lambda _: _reproduce(list(EXPERIMENTS) if names == ["all"] else names))


def _experiment(name: str) -> Any:
    if name not in EXPERIMENTS:
        raise UserError(f"{name}: not known; give one of {', '.join(EXPERIMENTS)}, or all")
    return resolve(name, EXPERIMENTS, "reproduce")


def _reproduce(names: Sequence[str]) -> None:
    experiments = {name: _experiment(name) for name in names}  # a typo ends before the first one runs
    for flag in (PLAN, PLAN_DEVICES, RUN, COORDINATOR, NUM_PROCESSES, PROCESS_ID):
        if flag.value != flag.default:
            raise UserError(
                f"--{flag.name}: not for sare_jax.reproduce, which trains an experiment's own runs here"
            )
    raw = config_dict(CONFIG)
    parse(raw)  # what is wrong in the file itself is named before experiments change it
    from sare_jax import programs, progress, stages  # after the checks: a typo should not wait for jax
    from sare_jax.reproduce.experiment import made
    from sare_jax.reproduce.repeats import with_seeds
    from sare_jax.reproduce.writing import write
    from sare_jax.stages.context import Context

    progress.show_as(display())
    for number, (name, experiment) in enumerate(experiments.items(), start=1):
        changed = experiment.changed(raw)
        config = parse(with_seeds(changed, SEEDS.value) if experiment.repeated else changed)
        workdir = Path(WORKDIR.value or Path("runs") / config.name)
        progress.say("experiment", f"{name} ({number} of {len(experiments)}): {experiment.title}", key=name)
        with progress.showing():
            stages.run(config, workdir)
        found = made(Context(config, workdir))
        with programs.kept_in(workdir):  # a page may time programs
            page = experiment.page(found)
        written = write(name, f"{name}: {experiment.title}", page, found.spec, workdir / "reproduce")
        pages = " ".join(map(str, written))
        progress.say("experiment_done", f"{name}: {pages}", key=name, files=[str(path) for path in written])
