"""The result table for a terminal."""

import textwrap
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from sare_jax.report.attacked import with_excess
from sare_jax.report.details import counts
from sare_jax.report.headline import headline
from sare_jax.report.read import read
from sare_jax.report.spec import ReportSpec
from sare_jax.report.tables import Cell, Table, result_tables


def table_text(workdir: Path, spec: ReportSpec | None = None) -> str:
    """The headline, and Table 1 without the columns that hold no number; at most 120 characters wide.

    Args:
      workdir: folder of a run.
      spec: runs, settings and labels; None takes the defaults, which fit the demo.

    Raises:
      UserError: no metrics, or a file that cannot be read; names it.
    """
    spec = spec or ReportSpec()
    inputs = read(Path(workdir), spec)
    table = with_excess(result_tables(inputs, spec)[0], inputs, spec)
    empty = [
        i for i, column in enumerate(zip(*_rows(table), strict=True)) if not any(map(_is_number, column))
    ]
    lines = [
        headline(inputs, spec).text,
        "",
        *_grid(table, [i for i, c in enumerate(table.columns) if i not in empty and c.key != "n"]),
    ]
    lines += ["", "In brackets: 95 % intervals of CHAIR_S; those of the other columns are in the report."]
    for note in table.notes:
        if note.startswith("Excess: "):
            lines += textwrap.wrap(note, 120)
    lines += counts(inputs, spec)
    if empty:
        lines.append("Not measured: " + ", ".join(table.columns[i].label.rstrip(".") for i in empty) + ".")
    return "\n".join(lines) + "\n"


def _rows(table: Table) -> list[tuple[Cell, ...]]:
    return [row.cells for group in table.groups for row in group.rows]


def _is_number(cell: Cell) -> bool:
    return isinstance(cell.value, int | float)


def _grid(table: Table, shown: list[int]) -> list[str]:
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("", no_wrap=True)
    for index in shown:
        column = table.columns[index]
        arrow = {"lower": "↓", "higher": "↑"}.get(column.better or "", "")
        grid.add_column(column.label + arrow, justify="right", no_wrap=True)
    for group in table.groups:
        grid.add_row(group.label)
        for row in group.rows:
            grid.add_row(f"  {row.label}", *(_shown(row.cells[i], table.columns[i].key) for i in shown))
    console = Console(width=200, color_system=None, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(grid)
    return [line.rstrip() for line in capture.get().splitlines()]


def _shown(cell: Cell, key: str) -> str:
    if not _is_number(cell):
        return "not run" if cell.text == "not run" else "–"
    return f"{cell.text} [{cell.detail}]" if key == "chair_s" and cell.detail else cell.text
