"""A page as HTML, Markdown, LaTeX and CSV, and drawings as files of their own."""

import csv
import io
from collections.abc import Iterator
from html import escape
from pathlib import Path

from sare_jax import files
from sare_jax.report.svg import standing_alone
from sare_jax.report.tables import Cell, Table, table_markdown
from sare_jax.reproduce.experiment import Page

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e3e0da}"
    "th:first-child{text-align:left}small{display:block;color:#5c6470}.paper{color:#5c6470}"
    "mark{background:#f6c9c0}section{margin:2rem 0}img{max-width:20rem}svg{max-width:36rem}"
)
# What TeX reads as commands; the letters of tables that its text fonts lack are given as mathematics.
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "$": r"\$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--",
    "λ": r"$\lambda$", "ρ": r"$\rho$", "₁": "$_1$", "₂": "$_2$", "ε": r"$\varepsilon$", "…": r"\dots{}",
    "∇": r"$\nabla$", "θ": r"$\theta$",
}  # fmt: skip


def write(name: str, title: str, page: Page, folder: Path) -> list[Path]:
    """Writes `NAME.html`, and `NAME.md`, `.tex`, `.csv` where the page has tables, and its drawings.

    Returns:
      The files, the page first.
    """
    texts = {f"{name}.html": as_html(title, page)}
    if page.tables:
        texts[f"{name}.md"] = "\n".join(map(table_markdown, page.tables))
        texts[f"{name}.tex"] = "\n".join(map(as_latex, page.tables))
        texts[f"{name}.csv"] = "".join(map(as_csv, page.tables))
    texts |= {f"{file}.svg": standing_alone(drawn.svg, drawn.label) for file, drawn in page.drawings.items()}
    for file, text in texts.items():
        files.write_text(folder / file, text)
    return [folder / file for file in texts]


def as_html(title: str, page: Page) -> str:
    """The page as one file."""
    parts = [_table_html(table) for table in page.tables]
    parts += [
        f"<figure>{standing_alone(drawn.svg, drawn.label)}</figure>" for drawn in page.drawings.values()
    ]
    parts += page.texts
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def as_latex(table: Table) -> str:
    """A table in LaTeX, with the rules of booktabs."""
    heads = [table.stub, *(column.label for column in table.columns)]
    lines = [
        r"\begin{table}\centering\small",
        rf"\caption{{{_tex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(map(_tex, heads)) + r" \\",
    ]
    for group in table.groups:
        lines.append(r"\midrule")
        if group.label:
            lines.append(rf"\multicolumn{{{len(heads)}}}{{l}}{{{_tex(group.label)}}} \\")
        lines += [" & ".join([_tex(row.label), *map(_cell_tex, row.cells)]) + r" \\" for row in group.rows]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    lines += [f"% {_tex(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def as_csv(table: Table) -> str:
    """A table's numbers, unrounded, with the bounds of their intervals in columns of their own."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    heads = [
        head for column in table.columns for head in (column.key, f"{column.key}_low", f"{column.key}_high")
    ]
    writer.writerow(["table", "group", "row", *heads])
    for group in table.groups:
        for row in group.rows:
            writer.writerow([table.key, group.label, row.label, *_csv_cells(row.cells)])
    return stream.getvalue()


def _csv_cells(cells: tuple[Cell, ...]) -> Iterator[object]:
    for cell in cells:
        yield cell.text if cell.value is None else cell.value
        yield from cell.interval or ("", "")


def _table_html(table: Table) -> str:
    heads = "".join(f"<th>{escape(column.label)}</th>" for column in table.columns)
    rows = []
    for group in table.groups:
        if group.label:
            rows.append(f'<tr><th colspan="{len(table.columns) + 1}">{escape(group.label)}</th></tr>')
        for row in group.rows:
            kind = ' class="paper"' if row.key.endswith("/paper") else ""
            rows.append(f"<tr{kind}><th>{escape(row.label)}</th>{''.join(map(_cell_html, row.cells))}</tr>")
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f"<h2>{escape(table.caption)}</h2><table><thead><tr><th>{escape(table.stub)}</th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table><ul>{notes}</ul>"
    )


def _cell_html(cell: Cell) -> str:
    detail = f"<small>{escape(cell.detail)}</small>" if cell.detail else ""
    return f"<td>{escape(cell.text)}{detail}</td>"


def _cell_tex(cell: Cell) -> str:
    return _tex(f"{cell.text} ({cell.detail})" if cell.detail else cell.text)


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)
