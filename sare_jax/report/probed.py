"""The table of what weights know and how far they moved, from `probes/<run>/<setting>.json`."""

from collections.abc import Mapping
from typing import Any

from sare_jax.evaluation.columns import NOT_MEASURED, Measure
from sare_jax.evaluation.compare import compare, told_apart
from sare_jax.evaluation.excess import excess
from sare_jax.evaluation.separation import AUC, COUNTS, GROUNDED, INVENTED
from sare_jax.report.attacked import NO_BASE
from sare_jax.report.measures import lookup
from sare_jax.report.spec import ReportSpec
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
    signed_text,
)

Probes = Mapping[tuple[str, str], Mapping[str, Any]]
"""(run, setting) → contents of its file."""

_KNOWN = (AUC, GROUNDED, INVENTED)
_COLUMNS = (
    *(Column(measure.key, measure.label, measure.better, measure.help) for measure in _KNOWN),
    Column(
        "taught", "taught", None, "Log-odds of invented objects, in nats: after the attack minus before it."
    ),
    Column("excess", "excess", "lower", "Taught to the run minus taught to the base model, in nats."),
    Column("l2", "‖Δθ‖₂", None, "How far the trainable weights moved: by unlearning, then by each attack."),
    Column("largest", "largest |Δθ|", None, "The same of the entry that moved farthest."),
)


def probes(found: Probes, spec: ReportSpec) -> Table | None:
    """One row a run and setting; None where nothing was probed."""
    groups = []
    for run in spec.runs:
        rows = [
            Row(setting.key, setting.label, _cells(found, spec, run.key, setting.key))
            for setting in spec.settings
            if (run.key, setting.key) in found
        ]
        if rows:
            groups.append(Group(run.key, run.label, tuple(rows)))
    if not groups:
        return None
    first = next(iter(found.values()))["separation"]
    return Table(
        "probes",
        "What the weights know at openings of the base model's captions, and how far they moved",
        "Setting",
        _COLUMNS,
        tuple(groups),
        (
            f"{first['n']} captions, {first['n_openings']} openings. Log-odds {first['rule']}.",
            "Invented: objects that the base model named where they were not. Small figures: 95 % bootstrap "
            "intervals over images, paired for differences. Bold: the interval excludes 0, "
            "and the excess is more than a rounding error.",
        ),
    )


def taught_sentence(found: Probes, spec: ReportSpec, run: str, setting: str) -> str:
    """What an attack adds to log-odds of invented objects beyond the base model; empty where not probed."""
    taught = _excess(found, spec, run, setting)
    if taught is None:
        return ""
    side = "none"
    if _notable(taught):
        side = "less" if taught["interval"][1] < 0 else "more"
    told = {"less": "less than", "more": "more than", "none": "not told apart from"}[side]
    bounds = interval_text((taught["interval"][0], taught["interval"][1]), 2)
    return (
        f"In log-odds of invented objects, which do not saturate, it adds "
        f"{signed_text(taught['given_back'], 2)} nats to {spec.label(run)}, {told} the "
        f"{signed_text(taught['by_base'], 2)} of the base model: excess "
        f"{signed_text(taught['difference'], 2)} (paired 95 % interval {bounds})."
    )


def _cells(found: Probes, spec: ReportSpec, run: str, setting: str) -> tuple[Cell, ...]:
    probe = found[run, setting]
    moved = probe["displacement"].get("by_attack") or probe["displacement"]["from_base"]
    return (
        *(_measure(probe, measure) for measure in _KNOWN),
        _taught(found, run, setting),
        _excess_cell(found, spec, run, setting),
        number_cell(moved["l2"], 3),
        Cell(f"{moved['largest']:.1e}".replace("-", "−"), value=moved["largest"]),
    )


def _measure(probe: Mapping[str, Any], measure: Measure) -> Cell:
    number = lookup(dict(probe), measure.path)
    if not isinstance(number, int | float):
        return absent(NOT_MEASURED)
    bounds = lookup(dict(probe), measure.interval)
    interval = (bounds[0], bounds[1]) if isinstance(bounds, list) else None
    return number_cell(number, measure.digits, interval)


def _taught(found: Probes, run: str, setting: str) -> Cell:
    before = found.get((run, "origin"))
    if setting == "origin" or before is None:
        return absent("–")
    rows = ({"separation": probe["separation"]} for probe in (before, found[run, setting]))
    change = compare(*rows, known=COUNTS)["metrics"][INVENTED.result_name]
    interval = (change["interval"][0], change["interval"][1])
    return change_cell(change["difference"], 2, interval)


def _excess_cell(found: Probes, spec: ReportSpec, run: str, setting: str) -> Cell:
    if setting == "origin" or run == spec.base:
        return absent("–")
    taught = _excess(found, spec, run, setting)
    if taught is None:
        return absent(NO_BASE)
    interval = (taught["interval"][0], taught["interval"][1])
    return change_cell(taught["difference"], 2, interval, best=_notable(taught))


def _notable(taught: Mapping[str, Any]) -> bool:
    """Whether an excess can be told from none, and shows in the digits that are printed."""
    return told_apart(taught["interval"], taught["discordant"]) and round(taught["difference"], 2) != 0


def _excess(found: Probes, spec: ReportSpec, run: str, setting: str) -> dict[str, Any] | None:
    """The excess in log-odds of invented objects; None where one of the four was not probed."""
    wanted = [(name, key) for name in (run, spec.base) for key in ("origin", setting)]
    if any(key not in found for key in wanted):
        return None
    rows = [{"separation": found[key]["separation"]} for key in wanted]
    return excess((rows[0], rows[1]), (rows[2], rows[3]), known=COUNTS)[INVENTED.result_name]
