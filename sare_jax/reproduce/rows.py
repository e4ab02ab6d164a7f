"""Tables in the paper's layout: a row a measured run, the paper's own row below it, a test beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sare_jax import files
from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.holm import holm
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report.contrasts import contrast, measured
from sare_jax.report.measures import columns_in
from sare_jax.report.tables import Cell, Column, Group, Row, Table, change_cell, number_cell, plain
from sare_jax.reproduce.experiment import Made

_NO_TEST = (plain(""), plain(""))
_PAPER = Path(__file__).with_name("paper.json")


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
      label: what it is called.
      run: key of the measured run.
      setting: key of the condition that it was measured under.
      paper: key of the paper's row under the table's model; empty where the paper has none.
    """

    label: str
    run: str
    setting: str = "origin"
    paper: str = ""


@cache
def paper_rows(table: str) -> dict[str, dict[str, dict[str, float]]]:
    """Model → row → column → number, as the paper prints them."""
    return files.read_json(_PAPER)[table]


def paper_table(
    made: Made,
    key: str,
    caption: str,
    groups: Sequence[tuple[str, Sequence[Line]]],
    paper: Mapping[str, Mapping[str, float]],
    notes: Sequence[str],
) -> Table:
    """A table of measured rows with the paper's beside them.

    The last two columns hold each row against the baseline under the same setting: the difference in CHAIR_S
    by paired bootstrap over images, and its p-value, corrected by Holm for the rows of the table.

    Args:
      made: what the stages made.
      key: names the table.
      caption: the line above it.
      groups: heading → rows.
      paper: row → column → the paper's number.
      notes: lines below the table.
    """
    measures = columns_in(made.spec)
    tested = _tested(made, [line for _, lines in groups for line in lines])
    columns = [Column(m.key, m.label, m.better, m.help) for m in measures]
    columns += [
        Column("difference", f"CHAIR_S − {made.spec.label(made.spec.baseline)}", "lower", "Paired by image."),
        Column("p", "p (Holm)", None, "Two-sided, corrected for the rows of this table."),
    ]
    rows = []
    for heading, lines in groups:
        shown = [row for line in lines for row in _rows(made, line, measures, tested, paper)]
        rows.append(Group(heading, heading, tuple(shown)))
    baseline = made.spec.label(made.spec.baseline)
    fixed = (
        "Small figures: 95 % intervals over images. Rows called paper are the paper's own figures, "
        "of its models, images and rules; they stand here for the direction, not for the level.",
        f"CHAIR_S − {baseline}: by paired bootstrap over images, under the same setting; the 95 % intervals "
        "are those of single rows, p is corrected for all rows of the table (Holm).",
    )
    return Table(key, caption, "", tuple(columns), tuple(rows), (*fixed, *notes, *_missing(made, groups)))


def _rows(
    made: Made,
    line: Line,
    measures: Sequence[Measure],
    tested: Mapping[tuple[str, str], tuple[Cell, Cell]],
    paper: Mapping[str, Mapping[str, float]],
) -> list[Row]:
    values = [measured(made.inputs, line.run, line.setting, measure) for measure in measures]
    cells = [
        number_cell(value.number, measure.digits, value.interval)
        if value.number is not None
        else plain(value.reason)
        for value, measure in zip(values, measures, strict=True)
    ]
    name = f"{line.run}/{line.setting}"
    rows = [Row(name, line.label, (*cells, *tested.get((line.run, line.setting), _NO_TEST)))]
    printed = paper.get(line.paper)
    if printed:
        beside = [Cell(_as_printed(printed.get(m.key))) for m in measures]
        rows.append(Row(f"{name}/paper", f"{line.label}, paper", (*beside, *_NO_TEST)))
    return rows


def _as_printed(number: float | None) -> str:
    return "–" if number is None else f"{number:g}"


def _tested(made: Made, lines: Sequence[Line]) -> dict[tuple[str, str], tuple[Cell, Cell]]:
    """(run, setting) → the difference from the baseline under the same setting, and its corrected p."""
    found = {
        (line.run, line.setting): contrast(
            made.inputs, made.spec, line.run, made.spec.baseline, line.setting, CHAIR_S
        )
        for line in lines
        if line.run not in (made.spec.base, made.spec.baseline)
    }
    known = {where: item for where, item in found.items() if item is not None and item.p is not None}
    corrected = holm([item.p for item in known.values() if item.p is not None])
    return {
        where: (change_cell(item.difference, 1, item.interval), number_cell(p, 3))
        for (where, item), p in zip(known.items(), corrected, strict=True)
    }


def _missing(made: Made, groups: Sequence[tuple[str, Sequence[Line]]]) -> list[str]:
    absent = [
        line.label
        for _, lines in groups
        for line in lines
        if made.inputs.result(line.run, line.setting) is None
    ]
    return [f"Not run: {', '.join(absent)}."] if absent else []
