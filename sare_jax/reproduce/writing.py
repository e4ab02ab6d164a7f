"""A page as HTML, Markdown, LaTeX and CSV, and drawings as files of their own."""

from pathlib import Path

from sare_jax import files
from sare_jax.report.comma_separated import table_csv
from sare_jax.report.page import render, sample
from sare_jax.report.spec import ReportSpec
from sare_jax.report.svg import standing_alone
from sare_jax.report.tables import Cell, Table, table_markdown
from sare_jax.reproduce.experiment import Page

# What TeX reads as commands; the letters of tables that its text fonts lack are given as mathematics.
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "$": r"\$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--",
    "λ": r"$\lambda$", "ρ": r"$\rho$", "₁": "$_1$", "₂": "$_2$", "ε": r"$\varepsilon$", "…": r"\dots{}",
    "∇": r"$\nabla$", "θ": r"$\theta$",
}  # fmt: skip


def write(name: str, title: str, page: Page, spec: ReportSpec, folder: Path) -> list[Path]:
    """Writes `NAME.html`, and `NAME.md`, `.tex`, `.csv` where the page has tables, and its drawings.

    Args:
      name: of the files.
      title: heading of the page.
      page: what it shows.
      spec: labels and order of the runs, and their colours.
      folder: where the files are written.

    Returns:
      The files, the page first.
    """
    texts = {f"{name}.html": as_html(title, page, spec)}
    if page.tables:
        texts[f"{name}.md"] = "\n".join(map(table_markdown, page.tables))
        texts[f"{name}.tex"] = "\n".join(map(as_latex, page.tables))
        texts[f"{name}.csv"] = "\n".join(map(table_csv, page.tables))
    if page.figures:
        legend = [(spec.label(run), str(sample(spec, run))) for run in page.figures.runs]
        for number, panel in enumerate(page.figures.panels, start=1):
            texts[f"{name}_{number}.svg"] = standing_alone(panel.svg, panel.label, legend)
    for file, text in texts.items():
        files.write_text(folder / file, text)
    return [folder / file for file in texts]


def as_html(title: str, page: Page, spec: ReportSpec) -> str:
    """The page as one file, made of the report's parts."""
    setting = spec.setting(spec.headline_setting)
    content = {
        "title": title,
        "tables": page.tables,
        "figure_group": page.figures,
        "exhibits": page.exhibits,
        "gallery_first": [run.key for run in spec.runs],
        "gallery_rest": [],
        "attack_label": setting.label if setting else spec.headline_setting,
    }
    return render(content, spec, "reproduced.html")


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


def _cell_tex(cell: Cell) -> str:
    return _tex(f"{cell.text} ({cell.detail})" if cell.detail else cell.text)


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)
