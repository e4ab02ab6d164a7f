"""Relearning on one half of the categories: what comes back of the other half, which was not taught."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.compare import told_apart
from sare_jax.evaluation.metrics.chair_categories import CHAIR_S, counts_of
from sare_jax.report.attacked import NO_BASE
from sare_jax.report.contrasts import sampling, with_counts
from sare_jax.report.finding import Finding, Verdict
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec, SettingSpec
from sare_jax.report.tables import (
    Cell,
    Column,
    Group,
    Row,
    Table,
    absent,
    change_cell,
    interval_text,
    number_cell,
    number_text,
    signed_text,
)

_COLUMNS = (
    Column("held_out_before", "held out: before", "lower", "Captions that invent an object of the half."),
    Column("held_out_after", "held out: after", "lower"),
    Column("held_out", "given back", None, "After − before, in points."),
    Column("by_base", "by base", None, "What the same attack adds to the base model, in points."),
    Column("excess", "excess", "lower", "Given back by the run minus given back by the base model."),
    Column("taught_before", "taught: before", "lower"),
    Column("taught_after", "taught: after", "lower"),
)


def disjoint(inputs: Inputs, spec: ReportSpec) -> Table | None:
    """A row for each run and attack of this kind, and the mean of several; None without such an attack."""
    groups = []
    for run in spec.runs:
        there = [setting for setting in spec.settings if _measured(inputs, run.key, setting)]
        rows = [Row(s.key, s.label, _cells(inputs, spec, run.key, [s])) for s in there]
        if len(there) > 1:
            label = f"mean of {len(there)} halves"
            rows.append(Row("mean", label, _cells(inputs, spec, run.key, there)))
        if rows:
            groups.append(Group(run.key, run.label, tuple(rows)))
    if not groups:
        return None
    return Table(
        "disjoint",
        "Captions that invent an object of the half that was held out, and of the half that was taught",
        "Attack",
        _COLUMNS,
        tuple(groups),
        (
            "The attack relearns objects of one half of the categories. What it gives back of the other half "
            "it did not teach: that was still in the model, or the attack raised the model's propensity to "
            "name what it does not see, which the base model shows too.",
            "Small figures: 95 % bootstrap intervals, the same images drawn in all rows. Bold: the interval "
            "excludes 0.",
        ),
    )


def disjoint_finding(inputs: Inputs, spec: ReportSpec) -> Finding | None:
    """Whether less of the held-out half comes back in the proposed run than in the baseline."""
    runs = (spec.ours, spec.baseline)
    there = [s for s in spec.settings if all(_measured(inputs, run, s) for run in runs)]
    if not there:
        return None
    sides = [_tables(inputs, run, there, "held_out") for run in (spec.baseline, spec.ours)]
    change = _contrast(inputs, there, sides)
    (before, after), (other_before, other_after) = (map(number_text, _values(side)) for side in sides[::-1])
    ours, baseline = spec.label(spec.ours), spec.label(spec.baseline)
    verdict: Verdict = "none"
    claim = f"{ours} and {baseline} are not told apart"
    if told_apart(change["interval"], change["discordant"]):
        verdict, which = ("better", "less") if change["difference"] < 0 else ("worse", "more")
        claim = f"{which} comes back in {ours} than in {baseline}"
    bounds = interval_text((change["interval"][0], change["interval"][1]))
    numbers = (
        f"captions that invent one of them {before} → {after} against {other_before} → {other_after} %, "
        f"difference of what came back {signed_text(change['difference'])} (paired 95 % interval {bounds})"
    )
    return Finding(f"Of objects that the attack did not teach, {claim}", numbers, verdict)


def _measured(inputs: Inputs, run: str, setting: SettingSpec) -> bool:
    """Whether a run was attacked so, and its results say what each caption invents."""
    parts = (with_counts(inputs.result(run, key)).get("chair", {}) for key in ("origin", setting.key))
    return "held_out" in inputs.attacks.get((run, setting.key), {}) and all(
        isinstance(part.get("per_image"), dict) and "invented" in part["per_image"] for part in parts
    )


@dataclass(frozen=True)
class _Counts:
    """What each caption of a result invents: its image's id, and float[2] for each, in the order of ids."""

    images: tuple[int | str, ...]
    table: np.ndarray


def _tables(inputs: Inputs, run: str, settings: Sequence[SettingSpec], half: str) -> list[_Counts]:
    """Counts by image before and after each of the attacks."""
    tables = []
    for setting in settings:
        categories = inputs.attacks[run, setting.key][half]
        for key in ("origin", setting.key):
            result = (inputs.result(run, key) or {})["chair"]
            table, images = counts_of(result, categories).astype(float), result["per_image"]["image_id"]
            order = sorted(range(len(images)), key=images.__getitem__)
            tables.append(_Counts(tuple(images[place] for place in order), table[order]))
    return tables


def _values(tables: Sequence[_Counts]) -> tuple[float, float]:
    """CHAIR_S of the half before and after, the mean over attacks."""
    values = [bootstrap.value(counts.table, CHAIR_S) for counts in tables]
    return float(np.mean(values[::2])), float(np.mean(values[1::2]))


def _contrast(
    inputs: Inputs, settings: Sequence[SettingSpec], sides: Sequence[list[_Counts]]
) -> dict[str, Any]:
    """What came back on the last of the sides, minus that on the first where there are two."""
    signs = (1.0,) if len(sides) == 1 else (-1.0, 1.0)
    weights = [sign * change / len(settings) for sign in signs for _ in settings for change in (-1.0, 1.0)]
    counts = [counts for side in sides for counts in side]
    if len({item.images for item in counts}) > 1:
        raise UserError("metrics: CHAIR of other images before an attack than after it, or in another run")
    tables = [item.table for item in counts]
    drawn = sampling(next(iter(inputs.metrics.values())))
    changes = sum(weight * table[:, 1] for weight, table in zip(weights, tables, strict=True))
    found = bootstrap.contrast(tables, weights, CHAIR_S, **drawn)
    return {**found, "discordant": int(np.count_nonzero(np.abs(changes) > 1e-9))}


def _cells(inputs: Inputs, spec: ReportSpec, run: str, settings: Sequence[SettingSpec]) -> tuple[Cell, ...]:
    held_out = _tables(inputs, run, settings, "held_out")
    before, after = _values(held_out)
    by_base, excess = absent("–"), absent("–")
    if run != spec.base:
        by_base, excess = absent(NO_BASE), absent(NO_BASE)
        if all(_measured(inputs, spec.base, setting) for setting in settings):
            base = _tables(inputs, spec.base, settings, "held_out")
            base_before, base_after = _values(base)
            by_base = change_cell(base_after - base_before)
            excess = _difference(_contrast(inputs, settings, [base, held_out]))
    return (
        number_cell(before),
        number_cell(after),
        _difference(_contrast(inputs, settings, [held_out])),
        by_base,
        excess,
        *map(number_cell, _values(_tables(inputs, run, settings, "taught"))),
    )


def _difference(change: dict[str, Any]) -> Cell:
    interval = (change["interval"][0], change["interval"][1])
    best = told_apart(interval, change["discordant"])
    return change_cell(change["difference"], interval=interval, best=best)
