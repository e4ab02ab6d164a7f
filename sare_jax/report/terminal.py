"""The result table for a terminal."""

import textwrap
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from sare_jax.report.attacked import with_excess
from sare_jax.report.details import counts
from sare_jax.report.headline import headline
from sare_jax.report.read import read
from sare_jax.report.shown import shown
from sare_jax.report.spec import ReportSpec
from sare_jax.report.tables import Cell, Table, result_tables


def table_text(workdir: Path, spec: ReportSpec | None = None) -> str:
    """The headline, and Table 1 without the columns and rows without a number; at most 120 wide.

    Args:
      workdir: folder of a run.
      spec: runs, settings and labels; None takes the defaults, which fit the demo.

    Raises:
      UserError: no metrics, or a file that cannot be read; names it.
    """
    spec = spec or ReportSpec()
    inputs = read(Path(workdir), spec)
    table = shown(with_excess(result_tables(inputs, spec)[0], inputs, spec))
    lines = [headline(inputs, spec).text, "", *_grid(table)]
    lines += ["", "In brackets: 95 % intervals of CHAIR_S; those of the other columns are in the report."]
    lines += counts(inputs, spec)
    for note in table.notes[1:]:  # the first is about intervals of all columns
        lines += textwrap.wrap(note, 120)
    return "\n".join(lines) + "\n"


def _grid(table: Table) -> list[str]:
    columns = [place for place, column in enumerate(table.columns) if column.key != "n"]
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("", no_wrap=True)
    for column in (table.columns[place] for place in columns):
        arrow = {"lower": "↓", "higher": "↑"}.get(column.better or "", "")
        grid.add_column(column.label + arrow, justify="right", no_wrap=True)
    for group in table.groups:
        grid.add_row(group.label)
        for row in group.rows:
            grid.add_row(f"  {row.label}", *(_text(row.cells[i], table.columns[i].key) for i in columns))
    console = Console(width=200, color_system=None, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(grid)
    return [line.rstrip() for line in capture.get().splitlines()]


def _text(cell: Cell, key: str) -> str:
    if cell.absent:
        return "–"
    return f"{cell.text} [{cell.detail}]" if key == "chair_s" and cell.detail else cell.text
