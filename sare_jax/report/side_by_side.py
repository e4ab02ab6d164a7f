"""Two reports on one page: paired differences of the rows that both have, and their numbers side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.compare import LEAST_DISCORDANT, compare, counts_of, told_apart
from sare_jax.report import figures, page
from sare_jax.report.contrasts import sampling, with_counts
from sare_jax.report.headline import headline
from sare_jax.report.measures import benchmarks_in, columns_in, metrics_in, value
from sare_jax.report.read import Inputs, read
from sare_jax.report.spec import ReportSpec
from sare_jax.report.tables import Cell, Column, Group, Row, Table, absent, change_cell, number_cell


@dataclass(frozen=True)
class Side:
    """One of the two reports: its letter, its workdir, what it shows, and what was read."""

    letter: str
    workdir: Path
    spec: ReportSpec
    inputs: Inputs


def side_by_side(first: tuple[Path, ReportSpec], second: tuple[Path, ReportSpec], out: Path) -> Path:
    """Writes the comparison of two workdirs as one page; equal files give equal pages.

    Rows are those that both have under the same run and setting, by their names in the config. Labels and
    columns are the first's.

    Args:
      first: a workdir, and the spec of its report.
      second: the same of the other one; differences are the second minus the first.
      out: the page to be written.

    Raises:
      UserError: a workdir without results, or the two have no row in common; names the rows.
    """
    a, b = (
        Side(letter, workdir, spec, read(workdir, spec))
        for letter, (workdir, spec) in zip("AB", (first, second), strict=True)
    )
    if not a.inputs.metrics.keys() & b.inputs.metrics.keys():
        rows = " and ".join(
            f"{side.workdir} has {', '.join('/'.join(key) for key in side.inputs.metrics)}" for side in (a, b)
        )
        raise UserError(f"no run and setting in common: {rows}; give workdirs with runs of the same names")
    warnings: dict[str, None] = {}
    content = {
        "sides": [
            {
                "letter": side.letter,
                "workdir": side.workdir,
                "headline": headline(side.inputs, side.spec),
                "hero": figures.hero(side.inputs, side.spec, f"hero-{side.letter}"),
            }
            for side in (a, b)
        ],
        "differences": _differences(a, b, warnings),
        "numbers": _numbers(a, b),
        "warnings": list(warnings),
    }
    files.write_text(out, page.render(content, a.spec, "side_by_side.html"))
    return out


def _shared(a: Side, b: Side) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """(run, its label, (setting, its label) pairs) that both sides have, in the order of the first."""
    common = a.inputs.metrics.keys() & b.inputs.metrics.keys()
    for run in a.spec.runs:
        there = [(s.key, s.label) for s in a.spec.settings if (run.key, s.key) in common]
        if there:
            yield run.key, run.label, there


def _differences(a: Side, b: Side, warnings: dict[str, None]) -> Table:
    measures = [m for m in columns_in(a.spec) if m.key != "n"]  # counts have no difference
    groups = []
    for run, label, there in _shared(a, b):
        rows = []
        for setting, name in there:
            found = _compared(a, b, run, setting, warnings)
            rows.append(Row(setting, name, tuple(_cell(found.get(m.result_name), m) for m in measures)))
        groups.append(Group(run, label, tuple(rows)))
    columns = tuple(Column(m.key, m.label, m.better, m.help) for m in measures)
    return Table(
        "differences",
        "B − A, paired on the images that both have",
        "Setting",
        columns,
        tuple(groups),
        (
            "Small figures: 95 % bootstrap intervals of the difference. Bold: the interval excludes 0, and "
            f"at least {LEAST_DISCORDANT} images differ.",
        ),
    )


def _compared(
    a: Side, b: Side, run: str, setting: str, warnings: dict[str, None]
) -> dict[str, dict[str, Any]]:
    """Dotted name → difference of a row's numbers; warns of metrics that were not measured alike."""
    one, other = (side.inputs.metrics[run, setting] for side in (a, b))
    known = counts_of(metrics_in(a.spec), benchmarks_in(a.spec))
    differences: dict[str, dict[str, Any]] = {}
    for section in one.keys() & other.keys():
        before, after = with_counts(one[section]), with_counts(other[section])
        if not before or not after:
            continue
        try:
            found = compare({section: before}, {section: after}, known=known, **sampling(one))
        except UserError as error:
            warnings[f"{run}, {setting}: {error}"] = None
            continue
        differences |= found["metrics"]
        warnings |= dict.fromkeys(f"{run}, {setting}: {line}" for line in found["warnings"])
    return differences


def _cell(found: dict[str, Any] | None, measure: Measure) -> Cell:
    if found is None:
        return absent("not paired")
    low, high = (bound * measure.scale for bound in found["interval"])
    best = told_apart(found["interval"], found["discordant"])
    return change_cell(found["difference"] * measure.scale, measure.digits, (low, high), best=best)


def _numbers(a: Side, b: Side) -> Table:
    measures = columns_in(a.spec)
    groups = tuple(
        Group(
            run,
            label,
            tuple(
                Row(
                    f"{setting}_{side.letter}",
                    f"{name}, {side.letter}",
                    _values(side, run, setting, measures),
                )
                for setting, name in there
                for side in (a, b)
            ),
        )
        for run, label, there in _shared(a, b)
    )
    columns = tuple(Column(m.key, m.label, m.better, m.help) for m in measures)
    return Table("numbers", "The numbers of both", "Setting", columns, groups)


def _values(side: Side, run: str, setting: str, measures: tuple[Measure, ...]) -> tuple[Cell, ...]:
    where = f"{side.workdir}/metrics/{run}/{setting}.json"
    values = ((m, value(side.inputs.result(run, setting), m, where)) for m in measures)
    return tuple(
        absent(v.reason) if v.number is None else number_cell(v.number, m.digits, v.interval)
        for m, v in values
    )
