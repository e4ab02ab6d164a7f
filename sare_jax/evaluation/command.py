"""Command line: `python -m sare_jax.evaluation NAME …`, NAME being a metric, a benchmark or `compare`."""

from collections.abc import Callable, Sequence
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation import compare, console
from sare_jax.evaluation.benchmarks import BENCHMARKS
from sare_jax.evaluation.benchmarks import command as benchmark_command
from sare_jax.evaluation.benchmarks.benchmark import Benchmark
from sare_jax.evaluation.metrics import METRICS
from sare_jax.evaluation.metrics.metric import Metric
from sare_jax.extensions import resolve

TABLE = METRICS | BENCHMARKS
OTHERS: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "compare": (compare.main, "two runs, paired bootstrap differences"),
}


def main(arguments: Sequence[str]) -> None:
    """Runs the command that the first argument names; lists the commands where there is none."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("\n".join(listing()))
        return
    name, *rest = arguments
    if name in OTHERS:
        OTHERS[name][0](rest)
        return
    value = resolve(name, TABLE | dict.fromkeys(OTHERS, ""), console.COMMAND)
    if isinstance(value, Benchmark):
        benchmark_command.main(value, rest)
    elif isinstance(value, Metric) and value.command:
        value.command(rest)
    else:
        raise UserError(f"{console.COMMAND}: {name} has no command of its own")


def listing() -> list[str]:
    """The lines of the list of commands: each name with what it does."""
    values: list[Any] = [resolve(name, TABLE, console.COMMAND) for name in TABLE]
    lines = [(value.name, value.about) for value in values if isinstance(value, Benchmark) or value.command]
    lines += [(name, about) for name, (_, about) in OTHERS.items()]
    width = max(len(name) for name, _ in lines)
    shown = [f"  {name:<{width}}  {about}" for name, about in lines]
    return [f"usage: {console.COMMAND} NAME …     (NAME --help says more)", *shown]


def run(arguments: Sequence[str]) -> None:
    """`main`, with mistakes and warnings as one line each."""
    console.run(lambda: main(arguments))
