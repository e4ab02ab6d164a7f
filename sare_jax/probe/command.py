"""Command line: `python -m sare_jax.probe WORKDIR` measures how far weights moved and what they know.

Settings for another model are chosen by these measurements. A radius ρ is compared with the distance by which
an attack moves the weights. A method is judged by the log-odds that an attack adds to it beyond those that it
adds to the base model.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from sare_jax.command import called
from sare_jax.config import BASE_RUN, ORIGIN, parse_saved
from sare_jax.errors import UserError
from sare_jax.locks import locked
from sare_jax.pipeline import Task
from sare_jax.report import spec_of
from sare_jax.report.probed import probes
from sare_jax.report.read import read_probes
from sare_jax.report.tables import table_markdown
from sare_jax.settings.building import at_least
from sare_jax.settings.saved import read_saved
from sare_jax.stages import attack, attacking, probing
from sare_jax.stages.context import Context


def main(argv: list[str] | None = None) -> None:
    """Measures every run under every setting whose weights are there, and prints the table."""
    parser = argparse.ArgumentParser(
        prog=called("python -m sare_jax.probe"),
        description="Displacement of weights by unlearning and attacks, log-odds of present and invented "
        "objects at openings of the base model's captions, and what attacks teach",
    )
    parser.add_argument(
        "workdir", type=Path, help="folder of a run whose stages evaluate and attack have run"
    )
    parser.add_argument(
        "--images", type=int, default=0, help="images; those of evaluate.probe_images, or 200"
    )
    parser.add_argument("--runs", default="", help="comma-separated runs; all, and base, by default")
    options = parser.parse_args(argv)
    at_least(options.images, 0, "--images")
    path = options.workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: not there; give the workdir of a run")
    config = parse_saved(read_saved(path))
    images = options.images or config.evaluate.probe_images or 200
    config = dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, probe_images=images))
    context = Context(config, options.workdir)
    runs = [name for name in options.runs.split(",") if name] or [BASE_RUN, *config.runs]
    if strangers := [run for run in runs if run not in (BASE_RUN, *config.runs)]:
        raise UserError(f"--runs: {strangers[0]!r} is no run; they are base, {', '.join(config.runs)}")
    with locked(options.workdir / ".lock", options.workdir):
        for task in _tasks(context, runs):
            context.ledger.execute(task)
    spec = spec_of(read_saved(path))
    table = probes(read_probes(options.workdir, spec), spec)
    if table is None:
        raise UserError(f"{options.workdir}: no weights of {', '.join(runs)}; run the unlearn stage first")
    print(table_markdown(table))


def _tasks(context: Context, runs: list[str]) -> Iterator[Task]:
    for run in runs:
        if run != BASE_RUN and not context.checkpoints(run).exists():
            continue
        yield from probing.probed(context, run, ORIGIN, *attacking.weights_of(context, run))
        for name in context.config.attacks:
            if attack.attacked_folder(context, run, name).exists():
                asking = attacking.asking_of(context, name)
                weights = attack.attacked_weights(context, run, name)
                yield from probing.probed(context, run, name, *weights, asking=asking)
