"""What a reader sees of a table: no columns and rows without a number, and the same rows by attack."""

import dataclasses

from sare_jax.report.tables import Group, Row, Table


def shown(table: Table) -> Table:
    """The table without the columns and rows that hold no number; notes below it name what was left out."""
    rows = [row for group in table.groups for row in group.rows]
    kept = [
        place
        for place in range(len(table.columns))
        if not rows or not all(row.cells[place].absent for row in rows)
    ]
    groups = tuple(
        dataclasses.replace(
            group,
            rows=tuple(
                dataclasses.replace(row, cells=tuple(row.cells[place] for place in kept))
                for row in group.rows
                if not _is_empty(row)
            ),
        )
        for group in table.groups
        if not all(map(_is_empty, group.rows))
    )
    lacking = [column.label.rstrip(".") for place, column in enumerate(table.columns) if place not in kept]
    not_run = [text for group in table.groups for text in _empty_in(group)]
    notes = [f"Not measured: {', '.join(lacking)}."] if lacking and groups else []
    notes += [f"Without numbers: {'; '.join(not_run)}."] if not_run else []
    return dataclasses.replace(
        table,
        columns=tuple(table.columns[place] for place in kept),
        groups=groups,
        notes=(*table.notes, *notes),
    )


def _is_empty(row: Row) -> bool:
    return all(cell.absent for cell in row.cells)


def _empty_in(group: Group) -> list[str]:
    """Names of a group's rows without numbers, in one text where the group has a heading."""
    empty = [row.label for row in group.rows if _is_empty(row)]
    if not group.label:
        return empty
    if empty and len(empty) == len(group.rows):
        return [group.label]
    return [f"{group.label} ({', '.join(empty)})"] if empty else []


def by_row(table: Table) -> Table | None:
    """The same cells with rows and groups in each other's place: by attack instead of by method.

    Returns:
      The table, whose notes stay with the first; None where it would say nothing new, since there is one
      group, or no two groups share a row.
    """
    keys = {row.key: row.label for group in table.groups for row in group.rows}
    groups = tuple(
        Group(
            key,
            label,
            tuple(
                Row(group.key, group.label, row.cells)
                for group in table.groups
                for row in group.rows
                if row.key == key
            ),
        )
        for key, label in keys.items()
    )
    if len(table.groups) < 2 or all(len(group.rows) < 2 for group in groups):
        return None
    return dataclasses.replace(
        table,
        key=f"{table.key}_by_row",
        caption=f"{table.caption}, by {table.stub.lower()}",
        stub="Run",
        groups=groups,
        notes=(),
    )
