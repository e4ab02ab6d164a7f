"""The smaller tables: erased and given back, comparisons, sharpness, chosen settings, provenance."""

from collections.abc import Mapping
from typing import Any

from sare_jax.evaluation.columns import NOT_MEASURED
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report.attacked import EXCESS, excess_cell
from sare_jax.report.contrasts import contrast, measured
from sare_jax.report.excess import given_back
from sare_jax.report.figures import scan_points
from sare_jax.report.measures import lookup, metrics_in, price_in
from sare_jax.report.read import Inputs, trained
from sare_jax.report.spec import ReportSpec
from sare_jax.report.tables import (
    Cell,
    Column,
    Group,
    Row,
    Table,
    number_text,
    plain,
    signed_text,
)


def _number(found: float | None, digits: int = 1, unit: str = "") -> Cell:
    if found is None:
        return plain(NOT_MEASURED)
    return Cell(number_text(found, digits) + unit, value=found)


def _signed(found: float | None, digits: int = 1) -> Cell:
    return plain(NOT_MEASURED) if found is None else Cell(signed_text(found, digits), value=found)


def _single(
    key: str, caption: str, stub: str, columns: list[Column], rows: list[Row], notes: tuple = ()
) -> Table:
    return Table(key, caption, stub, tuple(columns), (Group("", "", tuple(rows)),), notes)


def summary(inputs: Inputs, spec: ReportSpec) -> Table:
    """What each run erased, what the attack gave back beyond what it teaches the base, and the price."""
    setting = spec.setting(spec.headline_setting)
    attack = setting.label if setting else spec.headline_setting
    prices = price_in(spec)
    rows = []
    for run in trained(spec):
        origin, after = (
            measured(inputs, run.key, key, CHAIR_S).number for key in ("origin", spec.headline_setting)
        )
        changes = [
            contrast(inputs, spec, run.key, spec.base, "origin", measure) for measure in (CHAIR_S, *prices)
        ]
        erased, *price = (change.difference if change else None for change in changes)
        found = given_back(inputs, spec, run.key, spec.headline_setting)
        cells = (
            _number(origin),
            _signed(erased),
            _number(after),
            _signed(found.amount if found else None),
            excess_cell(found) if found else plain(NOT_MEASURED),
            *(_signed(change) for change in price),
        )
        rows.append(Row(run.key, run.label, cells))
    columns = [
        Column("chair_s", "CHAIR_S", "lower"),
        Column("erased", "against base"),
        Column("chair_s_after", f"CHAIR_S, {attack}", "lower"),
        Column("given_back", "given back", None, "Points of CHAIR_S that the attack added."),
        Column("excess", "excess", "lower", f"{EXCESS[0].upper()}{EXCESS[1:]}"),
        *(Column(measure.key, f"{measure.label}, against base") for measure in prices),
    ]
    return _single(
        "summary", f"Erased, given back by {attack}, and the price before the attack", "Run", columns, rows
    )


def sharpness(inputs: Inputs, spec: ReportSpec) -> Table | None:
    """How far the loss of the negatives falls, and CHAIR rises, within the scan; None without a scan."""
    record = inputs.landscape or {}
    scans = record.get("runs") or {}
    rows = []
    for run in trained(spec):
        if run.key in scans:
            cells = [
                _signed(_change(scans[run.key].get(direction) or {}, key, towards), digits)
                for direction, towards in (("eps", max), ("eps", min), ("random", max))
                for key, digits in (("loss", 2), ("chair_s", 1))
            ]
            rows.append(Row(run.key, run.label, tuple(cells)))
    if not rows:
        return None
    columns = [
        Column(f"{key}_{where}", f"{label}, {words}")
        for where, words in (("plus", "along +ε*"), ("minus", "along −ε*"), ("random", "random"))
        for key, label in (("loss", "ΔL_ft"), ("chair_s", "ΔCHAIR_S"))
    ]
    end = max(abs(a) for scan in scans.values() for line in scan.values() for a in line.get("alpha") or ())
    caption = f"Change from the solution to the ends of the scan, ‖Δθ‖₂ = {end:g} away"
    return _single("sharpness", caption, "Run", columns, rows, _landscape_notes(record, end))


def _change(scan: dict, key: str, end: Any) -> float | None:
    points = dict(scan_points(scan, key))
    return points[end(points)] - points[0.0] if 0.0 in points and len(points) > 1 else None


def _landscape_notes(found: dict, end: float) -> tuple[str, ...]:
    notes = []
    if found.get("n_images"):
        split = {"val": "validation ", "test": "test "}.get(str(found.get("split")), "")
        notes.append(f"CHAIR from {found['n_images']} {split}images a point.")
    if found.get("rho"):
        times = end / found["rho"]
        notes.append(
            f"ρ, the length of ε* in training, is {found['rho']:g}; the ends are {times:.3g} ρ away."
        )
    return tuple(notes)


_SETTING_LABELS = {
    "chair_s": "CHAIR_S",
    "chair_i": "CHAIR_I",
    "rho": "ρ",
    "neg_weight": "λ₁",
    "sent_weight": "λ₂",
}


def selection(inputs: Inputs, spec: ReportSpec) -> Table | None:
    """The search budget and the chosen settings of each run; None where no record was kept.

    `selection.json` is read as {"runs": {run: {name: value}}, …}, whatever else it holds becoming notes; one
    without `runs` is shown name by name.
    """
    caption = "Settings chosen on validation images"
    record = inputs.selection or {}
    found = record.get("runs")
    if not isinstance(found, dict) or not all(isinstance(item, dict) for item in found.values()):
        return mapping_table("selection", caption, record)
    flat = {run: _flat(item) for run, item in found.items()}
    names = list(dict.fromkeys(key for item in flat.values() for key in item))
    rows = [
        Row(run, spec.label(run), tuple(plain(_text(item.get(name, "–"))) for name in names))
        for run, item in flat.items()
    ]
    about = _flat({key: text for key, text in record.items() if key != "runs"})
    notes = tuple(f"{key.replace('_', ' ')}: {_text(text)}" for key, text in about.items())
    columns = [Column(name, _SETTING_LABELS.get(name, name.replace("_", " "))) for name in names]
    return _single("selection", caption, "Run", columns, rows, notes)


def _flat(item: Mapping, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, found in item.items():
        name = f"{prefix}{key}"
        if isinstance(found, Mapping):
            flat |= _flat(found, f"{name}.")
        else:
            flat[name] = found
    return flat


def _text(found: Any) -> str:
    if isinstance(found, float):
        return f"{found:.6g}".replace("-", "−")
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, list | tuple):
        short = len(found) <= 12 and not any(isinstance(item, Mapping | list) for item in found)
        return ", ".join(map(_text, found)) if short else f"{len(found)} entries"
    return "none" if found is None else str(found)


def mapping_table(key: str, caption: str, mapping: Mapping) -> Table | None:
    """A nested mapping as a table of dotted names and values; None where it is empty."""
    rows = [Row(name, name, (plain(_text(found)),)) for name, found in _flat(mapping).items()]
    return _single(key, caption, "Name", [Column("value", "Value")], rows) if rows else None


def provenance(inputs: Inputs) -> list[Table]:
    """Settings, what the models were, and the files that the report was made from."""
    first = next(iter(inputs.metrics.values()))
    about = {key: first[key] for key in ("settings", "bootstrap", "provenance") if key in first}
    tables = (
        mapping_table("config", "Settings of the run (config.json)", inputs.config),
        mapping_table(
            "provenance", "How the first row was measured: what was asked, bootstrap, provenance", about
        ),
        mapping_table(
            "sources", "Files that this report was made from, with their SHA-256", _dotless(inputs.sources)
        ),
    )
    return [table for table in tables if table]


def _dotless(sources: Mapping[str, str]) -> dict[str, str]:
    return {name: digest[:16] for name, digest in sources.items()}


def rules(inputs: Inputs, spec: ReportSpec) -> list[tuple[str, str]]:
    """(measure, rule) as the metrics files state them, one entry for each distinct statement."""
    known = {metric.name: metric.rules for metric in metrics_in(spec)}
    names: dict[str, dict[str, None]] = {}
    for result in inputs.metrics.values():
        for name, part in result.items():
            if not isinstance(part, Mapping):
                continue
            for inner_name, inner in (("", part), *part.items()):
                if isinstance(inner, Mapping) and isinstance(inner.get("rule"), str):
                    label = known.get(name, {}).get(inner_name) or f"{name} {inner_name}".strip()
                    names.setdefault(inner["rule"], {})[label] = None
    return [(", ".join(labels), rule) for rule, labels in names.items()]


def counts(inputs: Inputs, spec: ReportSpec) -> list[str]:
    """What n each row stands on, said once where all rows agree."""
    lines = []
    for name, paths in (item for metric in metrics_in(spec) for item in metric.counted.items()):
        found = (lookup(result, path) for result in inputs.metrics.values() for path in paths)
        numbers = sorted({n for n in found if isinstance(n, int)})
        if len(numbers) == 1:
            lines.append(f"{numbers[0]} {name} in every row.")
        elif numbers:
            lines.append(f"{numbers[0]} to {numbers[-1]} {name}, by row.")
    return lines
