"""The table of attacks: what each gave back to each run, and how much of that it teaches any model."""

import dataclasses

from sare_jax.evaluation.columns import NOT_MEASURED
from sare_jax.evaluation.metrics.chair import RECALL, WORDS
from sare_jax.report.contrasts import measured
from sare_jax.report.excess import GivenBack, given_back
from sare_jax.report.measures import NOT_RUN
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec, SettingSpec
from sare_jax.report.tables import (
    Cell,
    Column,
    Group,
    Row,
    Table,
    interval_text,
    number_text,
    plain,
    signed_text,
)

NO_BASE = "base not attacked"

EXCESS = (
    "points of CHAIR_S that the attack adds to the run, minus points that it adds to the base model, which "
    "has unlearned nothing. Above 0 more comes back than the attack teaches any model."
)
_COLUMNS = (
    Column("before", "CHAIR_S before", "lower"),
    Column("after", "CHAIR_S after", "lower"),
    Column("given_back", "given back", None, "After − before, in points of CHAIR_S."),
    Column("by_base", "by base", None, "What the same attack adds to the base model, in points of CHAIR_S."),
    Column("excess", "excess", "lower", EXCESS),
    Column("recall_before", "Recall before", "higher"),
    Column("recall_after", "Recall after", "higher"),
    Column("words_after", "Words after"),
)


def attacks(inputs: Inputs, spec: ReportSpec) -> Table | None:
    """One row a run and attack; None where nothing was attacked."""
    groups = []
    for run in spec.runs:
        rows = [
            Row(setting.key, setting.label, _cells(inputs, spec, run.key, setting, found))
            for setting in spec.settings
            if setting.key != "origin" and (found := given_back(inputs, spec, run.key, setting.key))
        ]
        if rows:
            groups.append(Group(run.key, run.label, tuple(rows)))
    if not groups:
        return None
    return Table(
        "attacks",
        "What each attack gives back, beside what it teaches the base model",
        "Attack",
        _COLUMNS,
        tuple(groups),
        (
            f"Excess: {EXCESS}",
            "Small figures: 95 % bootstrap intervals of the excess, the same images drawn in all four rows. "
            "Bold: the interval excludes 0.",
            *_not_attacked(inputs, spec),
        ),
    )


def with_excess(table: Table, inputs: Inputs, spec: ReportSpec) -> Table:
    """A table with a group a run and a row a setting, and the excess as its last column."""
    if not any(run != spec.base and setting != "origin" for run, setting in inputs.metrics):
        return table
    column = Column("excess", "Excess", "lower", EXCESS)
    groups = tuple(
        dataclasses.replace(
            group,
            rows=tuple(
                dataclasses.replace(row, cells=(*row.cells, _in_results(inputs, spec, group.key, row.key)))
                for row in group.rows
            ),
        )
        for group in table.groups
    )
    return dataclasses.replace(
        table, columns=(*table.columns, column), groups=groups, notes=(*table.notes, f"Excess: {EXCESS}")
    )


def _in_results(inputs: Inputs, spec: ReportSpec, run: str, setting: str) -> Cell:
    if setting == "origin" or run == spec.base:
        return plain("–")
    found = given_back(inputs, spec, run, setting)
    if found is None:
        return plain(NOT_RUN if inputs.result(run, setting) is None else NOT_MEASURED)
    return excess_cell(found)


def advice(setting: str) -> str:
    """How the base model's row of an attack is made."""
    return (
        f"name base among config.attacks.{setting}.runs (or leave that empty) and run the stages attack and "
        "report"
    )


def _not_attacked(inputs: Inputs, spec: ReportSpec) -> tuple[str, ...]:
    """A line on the attacks that the base model did not get."""
    lacking = [
        setting
        for setting in spec.settings
        if setting.key != "origin"
        and inputs.result(spec.base, setting.key) is None
        and any(run != spec.base and key == setting.key for run, key in inputs.metrics)
    ]
    if not lacking:
        return ()
    names = ", ".join(setting.label for setting in lacking)
    return (f"The base model was not attacked by {names}: {advice(lacking[0].key)}.",)


def _cells(
    inputs: Inputs, spec: ReportSpec, run: str, setting: SettingSpec, found: GivenBack
) -> tuple[Cell, ...]:
    recall, recall_after = (measured(inputs, run, key, RECALL).number for key in ("origin", setting.key))
    words = measured(inputs, run, setting.key, WORDS).number
    base = run == spec.base
    return (
        _number(found.before),
        _number(found.after),
        Cell(signed_text(found.amount), value=found.amount),
        plain("–") if base else _by_base(found),
        plain("–") if base else excess_cell(found),
        _number(recall),
        _number(recall_after),
        _number(words),
    )


def _number(number: float | None) -> Cell:
    return plain(NOT_MEASURED) if number is None else Cell(number_text(number), value=number)


def _by_base(found: GivenBack) -> Cell:
    if found.by_base is None:
        return plain(NO_BASE)
    return Cell(signed_text(found.by_base), value=found.by_base)


def excess_cell(found: GivenBack) -> Cell:
    """The excess with its interval, or that the base model was not attacked."""
    if found.excess is None:
        return plain(NO_BASE)
    return Cell(
        signed_text(found.excess),
        interval_text(found.interval) if found.interval else "",
        found.excess,
        found.interval,
        best=found.verdict in ("less", "more"),
    )
