"""Tables and figures as comma-separated values, unrounded."""

import csv
import io
from collections.abc import Iterable, Sequence

from sare_jax.report.svg import Point
from sare_jax.report.tables import Cell, Column, Table


def table_csv(table: Table) -> str:
    """A table with a line of headings; a column with intervals is followed by their two bounds."""
    grouped = any(group.label for group in table.groups)
    bounded = [
        any(row.cells[place].interval for group in table.groups for row in group.rows)
        for place in range(len(table.columns))
    ]
    heads = [*(("group",) if grouped else ()), table.stub]
    for column, has_bounds in zip(table.columns, bounded, strict=True):
        heads += _heads(column, has_bounds)
    lines = [heads]
    for group in table.groups:
        for row in group.rows:
            line = [*((group.label,) if grouped else ()), row.label]
            for cell, has_bounds in zip(row.cells, bounded, strict=True):
                line += _values(cell, has_bounds)
            lines.append(line)
    return _text(lines)


def points_csv(points: Sequence[Point]) -> str:
    """The numbers of a figure, one a line."""
    lines = ((p.series, p.x, p.value, *(p.interval or ("", ""))) for p in points)
    return _text([("series", "x", "value", "low", "high"), *lines])


def _heads(column: Column, bounded: bool) -> list[str]:
    return [column.label, f"{column.label}, low", f"{column.label}, high"] if bounded else [column.label]


def _values(cell: Cell, bounded: bool) -> list[object]:
    value = "" if cell.absent else cell.text if cell.value is None else cell.value
    return [value, *(cell.interval or ("", ""))] if bounded else [value]


def _text(lines: Iterable[Iterable[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()
