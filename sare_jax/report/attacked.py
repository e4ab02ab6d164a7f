"""The table of attacks: how far each raised CHAIR_S in each run, and how far it raises the base model's."""

import dataclasses

from sare_jax.evaluation.columns import NOT_MEASURED
from sare_jax.evaluation.metrics.chair import RECALL, WORDS
from sare_jax.report.contrasts import measured
from sare_jax.report.excess import GivenBack, given_back
from sare_jax.report.measures import NOT_RUN
from sare_jax.report.read import Inputs
from sare_jax.report.spec import FLOOR, ReportSpec, RunSpec, SettingSpec
from sare_jax.report.tables import (
    Cell,
    Column,
    Group,
    Row,
    Table,
    absent,
    change_cell,
    number_cell,
)

NO_BASE = "base not attacked"

_FLOOR = RunSpec(FLOOR, "floor: never hallucinated")

EXCESS = (
    "points of CHAIR_S that the attack adds to the run, minus points that it adds to the base model, which "
    "has unlearned nothing. Above 0 more comes back than the attack teaches any model."
)
_ABOUT_FLOOR = (
    "Floor: a model of the same size that never named what is not there, under the same attacks. What they "
    "teach it, no unlearning can be asked to withstand."
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
    """The table with one row per run and attack; None if nothing was attacked."""
    groups = []
    for run in (*spec.runs, _FLOOR):
        rows = [
            Row(setting.key, setting.label, _cells(inputs, spec, run.key, setting, given))
            for setting in spec.settings
            if setting.key != "origin" and (given := given_back(inputs, spec, run.key, setting.key))
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
            *((_ABOUT_FLOOR,) if groups[-1].key == FLOOR else ()),
        ),
    )


def with_excess(table: Table, inputs: Inputs, spec: ReportSpec) -> Table:
    """Adds the excess as the last column of a table that has a group per run and a row per setting."""
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
        return absent("–")
    given = given_back(inputs, spec, run, setting)
    if given is None:
        return absent(NOT_RUN if inputs.result(run, setting) is None else NOT_MEASURED)
    return excess_cell(given)


def advice(setting: str) -> str:
    """What to configure and run so that the base model is attacked, too; a clause for a sentence."""
    return (
        f"name base among config.attacks.{setting}.runs (or leave that empty) and run the stages attack and "
        "report"
    )


def _not_attacked(inputs: Inputs, spec: ReportSpec) -> tuple[str, ...]:
    """A note that names the attacks which were not made on the base model; empty if there are none."""
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
    inputs: Inputs, spec: ReportSpec, run: str, setting: SettingSpec, given: GivenBack
) -> tuple[Cell, ...]:
    recall, recall_after = (measured(inputs, run, key, RECALL).number for key in ("origin", setting.key))
    words = measured(inputs, run, setting.key, WORDS).number
    base = run == spec.base
    return (
        number_cell(given.before),
        number_cell(given.after),
        change_cell(given.amount),
        absent("–") if base else _by_base(given),
        absent("–") if base else excess_cell(given),
        number_cell(recall),
        number_cell(recall_after),
        number_cell(words),
    )


def _by_base(given: GivenBack) -> Cell:
    return absent(NO_BASE) if given.by_base is None else change_cell(given.by_base)


def excess_cell(given: GivenBack) -> Cell:
    """A cell with the excess and its interval; words if the base model was not attacked."""
    if given.excess is None:
        return absent(NO_BASE)
    return change_cell(given.excess, interval=given.interval, best=given.verdict in ("less", "more"))
