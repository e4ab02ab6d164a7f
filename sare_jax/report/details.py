"""The smaller tables: erased and given back, comparisons, sharpness, chosen settings, provenance."""

from collections.abc import Mapping
from typing import Any

from sare_jax.evaluation.columns import NOT_MEASURED
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.nested import flatten
from sare_jax.report.attacked import EXCESS, excess_cell
from sare_jax.report.contrasts import contrast, measured
from sare_jax.report.excess import given_back
from sare_jax.report.figures import scan_points
from sare_jax.report.measures import lookup, metrics_in, price_in
from sare_jax.report.read import Inputs, trained
from sare_jax.report.spec import ReportSpec, natural
from sare_jax.report.tables import (
    Column,
    Group,
    Row,
    Table,
    absent,
    change_cell,
    number_cell,
    plain,
)


def _single(
    key: str, caption: str, stub: str, columns: list[Column], rows: list[Row], notes: tuple = ()
) -> Table:
    return Table(key, caption, stub, tuple(columns), (Group("", "", tuple(rows)),), notes)


def summary(inputs: Inputs, spec: ReportSpec) -> Table:
    """A row per run: what it erased, what the headline attack brought back, and what erasing cost."""
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
        given = given_back(inputs, spec, run.key, spec.headline_setting)
        cells = (
            number_cell(origin),
            change_cell(erased),
            number_cell(after),
            change_cell(given.amount if given else None),
            excess_cell(given) if given else absent(NOT_MEASURED),
            *(change_cell(change) for change in price),
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
    """Changes of D_neg's loss and of CHAIR_S from the solution to the scan's ends; None without a scan."""
    record = inputs.landscape or {}
    scans = record.get("runs") or {}
    rows = []
    for run in trained(spec):
        if run.key in scans:
            cells = [
                change_cell(_change(scans[run.key].get(direction) or {}, key, towards), digits)
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


def _landscape_notes(record: dict, end: float) -> tuple[str, ...]:
    notes = []
    if record.get("n_images"):
        split = {"val": "validation ", "test": "test "}.get(str(record.get("split")), "")
        notes.append(f"CHAIR from {record['n_images']} {split}images a point.")
    if record.get("rho"):
        times = end / record["rho"]
        notes.append(
            f"ρ, the length of ε* in training, is {record['rho']:g}; the ends are {times:.3g} ρ away."
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
    """The settings chosen for each run, and how they were searched for; None without `selection.json`.

    The file is read as {"runs": {run: {name: value}}, …}; its other keys become notes. A file without `runs`
    is shown as a list of names and values.
    """
    caption = "Settings chosen on validation images"
    record = inputs.selection or {}
    runs = record.get("runs")
    if not isinstance(runs, dict) or not all(isinstance(item, dict) for item in runs.values()):
        return mapping_table("selection", caption, record)
    flat = {run: flatten(item, ".") for run, item in runs.items()}
    names = list(dict.fromkeys(key for item in flat.values() for key in item))
    rows = [
        Row(run, spec.label(run), tuple(plain(_text(item.get(name, "–"))) for name in names))
        for run, item in flat.items()
    ]
    about = flatten({key: text for key, text in record.items() if key != "runs"}, ".")
    notes = tuple(f"{key.replace('_', ' ')}: {_text(text)}" for key, text in about.items())
    columns = [Column(name, _SETTING_LABELS.get(name, name.replace("_", " "))) for name in names]
    return _single("selection", caption, "Run", columns, rows, notes)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", "−")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        short = len(value) <= 12 and not any(isinstance(item, Mapping | list) for item in value)
        return ", ".join(map(_text, value)) if short else f"{len(value)} entries"
    return "none" if value is None else str(value)


def mapping_table(key: str, caption: str, mapping: Mapping) -> Table | None:
    """A nested mapping as a table of dotted names and values; None if it is empty."""
    rows = [Row(name, name, (plain(_text(value)),)) for name, value in flatten(mapping, ".").items()]
    return _single(key, caption, "Name", [Column("value", "Value")], rows) if rows else None


def provenance(inputs: Inputs) -> list[Table]:
    """Settings, what the models were, and the files that the report was made from."""
    first = next(iter(inputs.metrics.values()))
    about = {key: first[key] for key in ("settings", "bootstrap", "provenance") if key in first}
    tables = (
        mapping_table("config", "Settings of the run (config.json)", _in_order(inputs.config)),
        mapping_table(
            "provenance", "How the first row was measured: what was asked, bootstrap, provenance", about
        ),
        mapping_table(
            "sources", "Files that this report was made from, with their SHA-256", _dotless(inputs.sources)
        ),
    )
    return [table for table in tables if table]


def _in_order(config: Mapping) -> dict[str, Any]:
    """Dotted keys, with numbers in names as numbers: the attack of 60 samples before that of 100."""
    flat = flatten(config, ".")
    return {key: flat[key] for key in sorted(flat, key=natural)}


def _dotless(sources: Mapping[str, str]) -> dict[str, str]:
    return {name: digest[:16] for name, digest in sources.items()}


def rules(inputs: Inputs, spec: ReportSpec) -> list[tuple[str, str]]:
    """(names of measures, rule by which they are computed) from the metrics files; each rule once."""
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
    """Sentences on how many images or questions the rows rest on; a range if the rows differ."""
    lines = []
    for name, paths in (item for metric in metrics_in(spec) for item in metric.counted.items()):
        values = (lookup(result, path) for result in inputs.metrics.values() for path in paths)
        numbers = sorted({n for n in values if isinstance(n, int)})
        if len(numbers) == 1:
            lines.append(f"{numbers[0]} {name} in every row.")
        elif numbers:
            lines.append(f"{numbers[0]} to {numbers[-1]} {name}, by row.")
    return lines
