"""Paired bootstrap differences of two evaluated runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap, console
from sare_jax.evaluation.benchmarks import BENCHMARKS
from sare_jax.evaluation.benchmarks.benchmark import Benchmark
from sare_jax.evaluation.columns import Counts
from sare_jax.evaluation.grouped import check_tables, groups_of, rows_of, side_by_side
from sare_jax.evaluation.metrics import METRICS
from sare_jax.evaluation.metrics.metric import Metric, metrics_of
from sare_jax.extensions import resolve
from sare_jax.files import read_json
from sare_jax.schema import checked

LEAST_DISCORDANT = 6
_IDENTITY = (
    "rule",
    "tokenizer",
    "start_token",
    "context",
    "vocabulary",
    "model",
    "instruction",
    "questions",
    "prompt",
    "subset",
    "truth",
)


def counts_of(metrics: Iterable[Metric], benchmarks: Iterable[Benchmark]) -> dict[str, Counts]:
    """`metric` entry of a result → what its numbers are made from."""
    return {
        **{name: counts for metric in metrics for name, counts in metric.counts.items()},
        **{benchmark.name: benchmark.counts for benchmark in benchmarks},
    }


@cache
def shipped_counts() -> dict[str, Counts]:
    """`counts_of` all metrics and benchmarks of this package."""
    benchmarks = [resolve(name, BENCHMARKS, "benchmark") for name in BENCHMARKS]
    return counts_of(metrics_of(METRICS), benchmarks)


def compare(
    before: dict,
    after: dict,
    *,
    known: Mapping[str, Counts] | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Differences after - before of every number that two results share, resampling the same images in both.

    Args:
      before: a row from `evaluate.measure`, or one metric's result.
      after: the row or result to hold against `before`, of the same kind.
      known: `counts_of` the metrics and benchmarks that the rows may hold; this package's where none
        are given.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      `metrics`: by dotted name ("chair.chair_s") `before`, `after`, `difference`, `interval`, `p`, `n`
      (images that both have), `discordant` (those of them whose own value differs); `warnings`: what the runs
      were asked differently, images that only one has.

    Raises:
      UserError: nothing in common, or the numbers are not the same measure (rule, word table, language model,
        question list, prompt of the questions or ground truth differ); names what differs.
    """
    known = shipped_counts() if known is None else known
    parts = list(paired((before, after), known))
    first, second = dict(_results(before, known)), dict(_results(after, known))
    scopes = {"": (before, after)}
    if "settings" not in before:
        scopes = {name: (first[name], second[name]) for name in first if name in second}
    warnings = [line for scope, pair in scopes.items() for line in _settings_differ(scope, *pair)]
    warnings += _provenance_differs(*(_section(row, "provenance") for row in (before, after)))
    metrics: dict[str, Any] = {}
    for part in parts:
        if part.lone:
            warnings.append(
                f"{part.name}: {part.lone} image(s) are in one run only and left out; "
                f"{len(part.images)} compared"
            )
        metrics |= _differences(part, draws, seed)
    return {"metrics": metrics, "warnings": warnings}


class Paired(NamedTuple):
    """One metric's counts of the same images in several rows.

    Attributes:
      name: dotted name of the metric.
      metrics: name of a number → function of the counts' sums, float[..., K] → float[...].
      images: ids of the n images that all rows have, in the order of the first.
      tables: the counts of each row, float[n, K].
      lone: number of the images that some rows lack.
    """

    name: str
    metrics: Mapping[str, bootstrap.Metric]
    images: list
    tables: list[np.ndarray]
    lone: int


def paired(documents: Sequence[dict], known: Mapping[str, Counts]) -> Iterator[Paired]:
    """The counts of every metric that some rows share, of the images that they share.

    Args:
      documents: rows from `evaluate.measure`, or one metric's results.
      known: `metric` entry of a result → what its numbers are made from (`counts_of`).

    Raises:
      UserError: nothing in common, or not the same measure; see `compare`.
    """
    results = [dict(_results(document, known)) for document in documents]
    shared = [name for name in results[0] if all(name in other for other in results)]
    if not shared:
        raise UserError(
            "no metric in common: " + " and ".join(str(sorted(result) or "none") for result in results)
        )
    for name in shared:
        for other in results[1:]:
            _refuse_other_measure(name, results[0][name], other[name])
        counts = known[results[0][name]["metric"]]
        tables = [result[name]["per_image"] for result in results]
        check_tables(name, tables, counts.columns)
        groups = groups_of(*tables)
        rows = [rows_of(table, counts.columns, groups) for table in tables]
        yield _paired(name, counts.metrics(groups), rows)
    for kind, counts in known.items():
        parts = [name for name in shared if counts.joint and results[0][name]["metric"] == kind]
        if len(parts) > 1:
            rows = [
                side_by_side([result[name]["per_image"] for name in parts], counts.columns)
                for result in results
            ]
            yield _paired(kind, counts.joint, rows)


def _paired(name: str, metrics: Mapping[str, bootstrap.Metric], rows: list[dict[Any, np.ndarray]]) -> Paired:
    common = [image for image in rows[0] if all(image in other for other in rows)]
    if not common:
        raise UserError(f"{name}: the runs have no image in common")
    lone = len({image for row in rows for image in row}) - len(common)
    return Paired(name, metrics, common, [np.stack([row[image] for image in common]) for row in rows], lone)


def _results(document: Any, known: Mapping[str, Counts], path: str = "") -> Iterator[tuple[str, dict]]:
    """Every metric's result in a document, by dotted path; a result on its own has its metric's name."""
    if not isinstance(document, dict):
        return
    if str(document.get("metric")) in known and "per_image" in document:
        yield path or document["metric"], document
        return
    for key, value in document.items():
        yield from _results(value, known, f"{path}.{key}" if path else key)


def _refuse_other_measure(name: str, first: dict, second: dict) -> None:
    for key in _IDENTITY:
        if first.get(key) != second.get(key):
            raise UserError(
                f"{name}: the runs were measured differently: {key} is {first.get(key)} in one and "
                f"{second.get(key)} in the other; score both with the same"
            )


def _settings_differ(name: str, first: dict, second: dict) -> list[str]:
    """A line for each setting in which the two runs differ (prompt, token limit, …)."""
    before, after = (_section(result, "settings", name) for result in (first, second))
    keys = [key for key in {**before, **after} if key not in ("captions", "answers")]
    where = f"{name}: " if name else ""
    return [
        f"{where}{key} differs: {before.get(key, 'not stated')!r} and {after.get(key, 'not stated')!r}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _section(result: dict, key: str, name: str = "") -> dict:
    """What a result holds under a key; empty where it has none.

    Raises:
      UserError: it holds something else than an object there.
    """
    return checked(result.get(key, {}), dict[str, Any], f"{name}: {key}" if name else key)


def _provenance_differs(first: dict, second: dict) -> list[str]:
    """A line each where the two rows come from another config, base model or split."""
    return [
        f"provenance: {key} differs: {first[key]} and {second[key]}"
        for key in ("config", "model", "split")
        if key in first and key in second and first[key] != second[key]
    ]


def _differences(part: Paired, draws: int, seed: int) -> dict[str, dict[str, Any]]:
    first, second = part.tables
    return {
        f"{part.name}.{label}": {
            "before": bootstrap.value(first, metric),
            "after": bootstrap.value(second, metric),
            **bootstrap.difference(first, second, metric, draws=draws, seed=seed),
            "n": len(part.images),
            "discordant": int(np.count_nonzero(metric(first) != metric(second))),
        }
        for label, metric in part.metrics.items()
    }


def told_apart(interval: Sequence[float], discordant: int) -> bool:
    """Whether a paired difference can be told from none.

    Args:
      interval: [low, high], the 95 % interval of the difference.
      discordant: number of images whose own value differs. Fewer than `LEAST_DISCORDANT` never suffice, even
        if the interval excludes 0: where all of them change in one direction, a sign test gives p > 0.05.
    """
    low, high = interval
    return (low > 0 or high < 0) and discordant >= LEAST_DISCORDANT


def table_lines(result: dict[str, Any]) -> list[str]:
    """The comparison as lines of text; a star marks differences that `told_apart` tells from none."""
    width = max(map(len, result["metrics"]))
    lines = [f"{'':<{width}} {'A':>9} {'B':>9} {'B - A':>9}   95 % interval, paired over images"]
    for name, row in result["metrics"].items():
        low, high = row["interval"]
        star = " *" if told_apart(row["interval"], row["discordant"]) else ""
        numbers = f"{row['before']:9.3f} {row['after']:9.3f} {row['difference']:+9.3f}"
        lines.append(f"{name:<{width}} {numbers}   [{low:+.3f}, {high:+.3f}] p {row['p']:.3f}{star}")
    return lines


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation compare A B [--json] [--strict]`."""
    parser = console.parser("compare", "Paired differences of two evaluated runs")
    parser.add_argument("a", help="metrics/<run>/<setting>.json, or a metric's --json output")
    parser.add_argument("b", help="the same of the other run")
    parser.add_argument("--strict", action="store_true", help="refuse runs that were asked differently")
    console.add_common(parser)
    options = parser.parse_args(argv)
    documents = [read_json(Path(path)) for path in (options.a, options.b)]
    for path, document in zip((options.a, options.b), documents, strict=True):
        if not isinstance(document, dict):
            raise UserError(f"{path}: no result of a metric; give a row of metrics/ or the output of --json")
    result = compare(*documents, draws=options.draws, seed=options.seed)
    if options.strict and result["warnings"]:
        raise UserError(f"the runs are not comparable: {'; '.join(result['warnings'])}")
    if options.json:
        console.print_json(result)
        return
    print(f"A: {options.a}\nB: {options.b}")
    print("\n".join(table_lines(result)))
    for text in result["warnings"]:
        print(f"WARNING: {text}")
