"""Tables as data, from which the page, `report.json`, `report.md` and the terminal are made."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from sare_jax.evaluation.columns import NOT_MEASURED, Measure
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report.measures import Value, benchmarks_in, columns_in, in_place, lookup, metrics_in, value
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec, RunSpec, SettingSpec

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
      text: what the reader sees, such as `12.3` or `not run`.
      detail: a second, smaller line, such as the interval.
      value: for `report.json`: the unrounded number, or `text`.
      interval: (low, high) of `value`, or None.
      best: whether the number is the best under its setting.
      whisker: (low, point, high) in percent of the cell's width, for a drawn interval; or None.
      absent: whether `text` says why there is no number where the column has one.
    """

    text: str
    detail: str = ""
    value: float | str | None = None
    interval: tuple[float, float] | None = None
    best: bool = False
    whisker: tuple[float, float, float] | None = None
    absent: bool = False


@dataclass(frozen=True)
class Column:
    """A heading: `key` in `report.json`, `label` on the page; `better` is `lower`, `higher` or None."""

    key: str
    label: str
    better: str | None = None
    help: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table; `key` identifies it in `report.json`."""

    key: str
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """Rows under a common heading; an empty label means no heading."""

    key: str
    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table with a caption and notes.

    Attributes:
      key: the table's name in `report.json`, and its anchor on the page.
      caption: one line above the table.
      stub: heading of the first column, which holds the rows' labels.
      columns: headings of the other columns; each row has a cell for each.
      groups: the rows, grouped by run for most tables.
      notes: lines below the table.
    """

    key: str
    caption: str
    stub: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()


def number_text(number: float, digits: int = 1) -> str:
    """A number with `digits` decimals, with the sign − for negative numbers and none for zero."""
    text = f"{number:.{digits}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed_text(number: float, digits: int = 1) -> str:
    """As `number_text`, with a plus sign on positive numbers."""
    text = number_text(number, digits)
    return text if text.startswith("−") or not text.strip("0.") else f"+{text}"


def interval_text(interval: tuple[float, float], digits: int = 1) -> str:
    """An interval as `low–high`, or `low to high` where a bound is negative."""
    low, high = (number_text(bound, digits) for bound in interval)
    return f"{low} to {high}" if "−" in low + high else f"{low}–{high}"


def plain(text: str) -> Cell:
    """A cell of words."""
    return Cell(text, value=text)


def absent(reason: str) -> Cell:
    """A cell without the number that its column is for; says why, such as `not run`."""
    return Cell(reason, value=reason, absent=True)


def number_cell(
    number: float | None, digits: int = 1, interval: tuple[float, float] | None = None, *, best: bool = False
) -> Cell:
    """A cell with a number and its interval, if it has one; words if it was not measured."""
    return _numeric(number_text, number, digits, interval, best)


def change_cell(
    change: float | None, digits: int = 1, interval: tuple[float, float] | None = None, *, best: bool = False
) -> Cell:
    """As `number_cell`, with a sign on what rose too."""
    return _numeric(signed_text, change, digits, interval, best)


def _numeric(
    write: Callable[[float, int], str],
    number: float | None,
    digits: int,
    interval: tuple[float, float] | None,
    best: bool,
) -> Cell:
    if number is None:
        return absent(NOT_MEASURED)
    detail = interval_text(interval, digits) if interval else ""
    return Cell(write(number, digits), detail, number, interval, best)


def result_tables(inputs: Inputs, spec: ReportSpec) -> list[Table]:
    """The paper's Table 1, then those of other rules, single metrics and benchmarks that hold numbers."""
    metrics = metrics_in(spec)
    first = _measure_table(
        inputs,
        spec,
        columns_in(spec),
        "results",
        "Hallucination and generation quality, in the layout of the paper's Table 1",
        (
            "Small figures: 95 % intervals, exact for shares of captions and answers, else by bootstrap over "
            "images. Bold: the best point estimate under the same setting, whatever the intervals say.",
        ),
    )
    caption = (
        "The same answers by the rules behind the numbers that EFUF and SARE print, and what else was counted"
    )
    others = in_place(measure for metric in metrics for measure in metric.other)
    scored = {name for result in inputs.metrics.values() for name in result.get("benchmarks", {})}
    asked = in_place(
        measure
        for benchmark in benchmarks_in(spec)
        if benchmark.name in scored
        for measure in benchmark.columns
    )
    more = [
        _measure_table(inputs, spec, others, "other", caption),
        *(
            _measure_table(inputs, spec, metric.detail, metric.name, metric.detail_title)
            for metric in metrics
            if metric.detail
        ),
        _measure_table(inputs, spec, asked, "benchmarks", "General benchmarks", _questions_asked(inputs)),
    ]
    return [first, *(table for table in more if _has_numbers(table))]


def _questions_asked(inputs: Inputs) -> tuple[str, ...]:
    """A note per benchmark: which questions were asked, with which prompt, and who judged the answers."""
    lines: dict[str, None] = {}
    for result in inputs.metrics.values():
        for name, benchmark in result.get("benchmarks", {}).items():
            template = lookup(benchmark, ("prompt", "template"))
            judge = f", judged by {benchmark['model']}" if benchmark.get("model") else ""
            lines[f"{name}: {benchmark.get('subset')}, asked as “{template}”{judge}."] = None
    return tuple(lines)


def _measure_table(
    inputs: Inputs,
    spec: ReportSpec,
    measures: tuple[Measure, ...],
    key: str,
    caption: str,
    notes: tuple[str, ...] = (),
) -> Table:
    values = {
        (run.key, setting.key): [
            value(inputs.result(run.key, setting.key), measure, f"metrics/{run.key}/{setting.key}.json")
            for measure in measures
        ]
        for run in spec.runs
        for setting in spec.settings
    }
    groups = tuple(
        Group(
            run.key,
            run.label,
            tuple(_row(run, setting, measures, values) for setting in spec.settings),
        )
        for run in spec.runs
    )
    columns = tuple(Column(m.key, m.label, m.better, m.help) for m in measures)
    return Table(key, caption, "Setting", columns, groups, notes)


def _row(
    run: RunSpec,
    setting: SettingSpec,
    measures: tuple[Measure, ...],
    values: dict[tuple[str, str], list[Value]],
) -> Row:
    rivals = [shown for (_, key), shown in values.items() if key == setting.key]
    cells = tuple(
        _cell(shown, measure, [rival[column] for rival in rivals])
        for column, (shown, measure) in enumerate(zip(values[run.key, setting.key], measures, strict=True))
    )
    return Row(setting.key, setting.label, cells)


def _cell(shown: Value, measure: Measure, rivals: list[Value]) -> Cell:
    if shown.number is None:
        return absent(shown.reason)
    whisker = None
    if measure is CHAIR_S and shown.interval:
        low, high = shown.interval
        whisker = (low, shown.number, high)
    return Cell(
        text=number_text(shown.number, measure.digits),
        detail=interval_text(shown.interval, measure.digits) if shown.interval else "",
        value=shown.number,
        interval=shown.interval,
        best=_is_best(shown.number, measure, rivals),
        whisker=whisker,
    )


def _is_best(number: float, measure: Measure, rivals: list[Value]) -> bool:
    """Whether no rival's number is better, rounded to the digits shown. If all are alike, none is best."""
    numbers = [rival.number for rival in rivals if rival.number is not None]
    if measure.better is None or len(numbers) < 2:
        return False
    best, worst = sorted((min(numbers), max(numbers)), reverse=measure.better == "higher")
    return _alike(number, best, measure) and not _alike(worst, best, measure)


def _alike(a: float, b: float, measure: Measure) -> bool:
    return math.isclose(round(a, measure.digits), round(b, measure.digits))


def _has_numbers(table: Table) -> bool:
    return any(
        isinstance(cell.value, float | int)
        for group in table.groups
        for row in group.rows
        for cell in row.cells
    )


def table_json(table: Table) -> dict:
    """A table for `report.json`: rows of key → {"value", "interval"}."""
    rows = []
    for group in table.groups:
        for row in group.rows:
            record = ({"run": group.key} if group.key else {}) | {"key": row.key, "label": row.label}
            cells: dict[str, dict[str, object]] = {}
            for column, cell in zip(table.columns, row.cells, strict=True):
                cells[column.key] = {"value": cell.value}
                if cell.interval:
                    cells[column.key]["interval"] = list(cell.interval)
            rows.append(record | {"cells": cells})
    return {
        "key": table.key,
        "caption": table.caption,
        "columns": [{"key": c.key, "label": c.label, "better": c.better} for c in table.columns],
        "rows": rows,
        "notes": list(table.notes),
    }


def table_markdown(table: Table) -> str:
    """A table in GitHub's Markdown, with its caption and notes."""
    arrows = {"lower": " ↓", "higher": " ↑"}
    grouped = any(group.label for group in table.groups)
    heads = (["Run"] if grouped else []) + [table.stub]
    heads += [column.label + arrows.get(column.better or "", "") for column in table.columns]
    lines = [f"**{table.caption}**", "", _markdown_line(heads), _markdown_line(["---"] * len(heads))]
    for group in table.groups:
        for row in group.rows:
            cells = [_markdown_cell(cell) for cell in row.cells]
            lines.append(_markdown_line(([group.label] if grouped else []) + [row.label, *cells]))
    lines += [""] + [f"- {note}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def inert(markdown: str) -> str:
    """Markdown in which no caption or name becomes HTML or a link; none of the report's own is either."""
    return _TAG.sub("&lt;", markdown).replace("](", "]\\(")


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text} ({cell.detail})" if cell.detail else text


def _markdown_line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
