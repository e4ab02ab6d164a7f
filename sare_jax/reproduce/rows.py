"""Tables in the paper's layout: a row a measured run, the paper's own row below it, a test beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sare_jax import files
from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.holm import holm
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report.measures import columns_in
from sare_jax.report.tables import Cell, Column, Group, Row, Table, change_cell, number_cell, plain
from sare_jax.reproduce.experiment import Made
from sare_jax.reproduce.repeats import difference_over_seeds, mean_over_seeds, repeats_of

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
    lines = [line for _, group in groups for line in group]
    measures = [m for m in columns_in(made.spec) if _has_numbers(made, m, lines, paper)]
    tested = _tested(made, lines)
    columns = [Column(m.key, m.label, m.better, m.help) for m in measures]
    columns += [
        Column("difference", f"CHAIR_S − {made.spec.label(made.spec.baseline)}", "lower", "Paired by image."),
        Column("p", "p (Holm)", None, "Two-sided, corrected for the rows of this table."),
    ]
    rows = []
    for heading, group in groups:
        shown = [row for line in group for row in _rows(made, line, measures, tested, paper)]
        rows.append(Group(heading, heading, tuple(shown)))
    baseline = made.spec.label(made.spec.baseline)
    fixed = (
        "Small figures: 95 % intervals over images. Rows called paper are the paper's own figures, "
        "of its models, images and rules; they stand here for the direction, not for the level.",
        f"CHAIR_S − {baseline}: by paired bootstrap over images, under the same setting; the 95 % intervals "
        "are those of single rows, p is corrected for all rows of the table (Holm).",
    )
    return Table(key, caption, "", tuple(columns), tuple(rows), (*fixed, *notes, *_missing(made, groups)))


def _has_numbers(
    made: Made, measure: Measure, lines: Sequence[Line], paper: Mapping[str, Mapping[str, float]]
) -> bool:
    """Whether some row of a table, ours or the paper's, has this number."""
    return any(
        measure.key in paper.get(line.paper, {})
        or mean_over_seeds(made, line.run, line.setting, measure).number is not None
        for line in lines
    )


def _rows(
    made: Made,
    line: Line,
    measures: Sequence[Measure],
    tested: Mapping[tuple[str, str], tuple[Cell, Cell]],
    paper: Mapping[str, Mapping[str, float]],
) -> list[Row]:
    values = [mean_over_seeds(made, line.run, line.setting, measure) for measure in measures]
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
    known = {}
    for line in lines:
        if line.run in (made.spec.base, made.spec.baseline):
            continue
        found = difference_over_seeds(made, line.run, made.spec.baseline, line.setting, CHAIR_S)
        if found and found[2] is not None:
            known[line.run, line.setting] = found
    corrected = holm([p for _, _, p in known.values() if p is not None])
    return {
        where: (change_cell(difference, 1, interval), number_cell(p, 3))
        for (where, (difference, interval, _)), p in zip(known.items(), corrected, strict=True)
    }


def _missing(made: Made, groups: Sequence[tuple[str, Sequence[Line]]]) -> list[str]:
    lines = [line for _, group in groups for line in group]
    absent = [
        line.label
        for line in lines
        if any(made.inputs.result(run, line.setting) is None for run in repeats_of(made, line.run))
    ]
    notes = [f"Not run: {', '.join(absent)}."] if absent else []
    seeds = max(len(repeats_of(made, line.run)) for line in lines)
    if seeds > 1:
        notes.append(
            f"Means over {seeds} training seeds; intervals and p by resampling seeds and images together. "
            "The base model has one seed, and the attacks keep theirs."
        )
    return notes
