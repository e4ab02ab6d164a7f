"""Paired differences from `comparisons.json`: of final weights, and of checkpoints with equal erasure."""

from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.compare import LEAST_DISCORDANT, told_apart
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report.finding import Finding, Verdict
from sare_jax.report.findings import when
from sare_jax.report.measures import all_measures
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec, SettingSpec
from sare_jax.report.tables import (
    Cell,
    Column,
    Group,
    Row,
    Table,
    absent,
    interval_text,
    plain,
    signed_text,
)


def comparisons(inputs: Inputs, spec: ReportSpec) -> Table | None:
    """A table of B − A, one row per comparison and one column per measure; None if there are no entries."""
    by_row: dict[tuple[str, str, str, str], dict[str, dict]] = {}
    for item in inputs.comparisons:
        key = (item.get("name") or "", item["a"], item["b"], item.get("note") or "")
        by_row.setdefault(key, {})[item["metric"]] = item
    if not by_row:
        return None
    metrics = list(dict.fromkeys(item["metric"] for item in inputs.comparisons))
    places = {setting.key: place for place, setting in enumerate(spec.settings)}
    in_order = sorted(by_row, key=lambda key: places.get(_setting(key[0]), len(places)))
    rows, repeated = [], []
    for number, key in enumerate(in_order):
        name, a, b, note = key
        above = (by_row[k] for k in in_order[:number] if (_setting(k[0]), *k[1:3]) == (_setting(name), a, b))
        if any(_repeats(by_row[key], other) for other in above):
            repeated.append(_named(name, spec))
            continue
        cells = [plain(f"{spec.label(b)} − {spec.label(a)}")]
        cells += [_difference(by_row[key].get(metric)) for metric in metrics]
        rows.append(Row(str(number), _named(name, spec), (*cells, plain(note))))
    columns = [Column("sides", "Difference")]
    columns += [_column(metric, all_measures(spec).get(metric)) for metric in metrics]
    return Table(
        "comparisons",
        "Paired differences on the same images",
        "Setting",
        (*columns, Column("note", "What is compared")),
        (Group("", "", tuple(rows)),),
        (
            "Small figures: 95 % bootstrap intervals of the difference. Bold: the interval excludes 0, and "
            f"at least {LEAST_DISCORDANT} images differ.",
            *((f"With the numbers of a row above: {'; '.join(repeated)}.",) if repeated else ()),
        ),
    )


def _setting(name: str) -> str:
    return name.partition(", ")[0]


def _repeats(item: dict[str, dict], other: dict[str, dict]) -> bool:
    """Whether all differences of an entry are those of another one, as of the same final weights."""
    return all(
        metric in other and _difference(entry) == _difference(other[metric]) for metric, entry in item.items()
    )


def at_equal_footing(inputs: Inputs, spec: ReportSpec) -> list[Finding]:
    """Sentences on the checkpoints that were alike before the attack, as measured after it."""
    sentences = []
    setting = spec.setting(spec.headline_setting)
    for item in inputs.comparisons:
        key, _, _ = (item.get("name") or "").partition(", ")
        wanted = key == spec.headline_setting and item["metric"] == CHAIR_S.result_name
        if wanted and setting and item.get("footings") and item.get("interval"):
            sentences += _sentences(item, setting, spec)
    return sentences


def _sentences(item: dict, setting: SettingSpec, spec: ReportSpec) -> list[Finding]:
    """Findings on a pair of checkpoints: the numbers in which they are not equal, then the comparison.

    The comparison is left out if the checkpoints are equal in no number.
    """
    equal = [footing for footing in item["footings"] if footing["gap"] <= footing["bound"]]
    unequal = [_not_comparable(footing) for footing in item["footings"] if footing not in equal]
    if not equal:
        return unequal
    label = " and ".join(footing["label"] for footing in equal)
    if item.get("final"):
        claim = f"The checkpoints of {label} are the final weights, of which the headline speaks"
        return [*unequal, Finding(claim, item.get("note") or "", "note")]
    return [*unequal, _sentence(item, label, setting, spec)]


def _not_comparable(footing: dict) -> Finding:
    numbers = (
        f"the closest checkpoints are {footing['gap']:.1f} {footing['unit']} apart, "
        f"and equal would be {footing['bound']:.1f} at most"
    )
    return Finding(f"From {footing['label']}, the two are not comparable", numbers, "open")


def _sentence(item: dict, footing: str, setting: SettingSpec, spec: ReportSpec) -> Finding:
    low, high = item["interval"]
    ours, other = spec.label(item["b"]), spec.label(item["a"])
    verdict: Verdict = "none"
    claim = f"no difference between {ours} and {other} can be told"
    if told_apart((low, high), item["discordant"]):
        verdict, which = ("better", "fewer") if high < 0 else ("worse", "more")
        claim = f"{ours} hallucinates in {which} captions than {other}"
    bounds = interval_text((low, high))
    rests = f"paired 95 % interval {bounds}; {item['discordant']} of {item['n']} images differ"
    numbers = f"CHAIR_S difference {signed_text(item['difference'])} ({rests}); {item['note']}"
    head = when(setting)
    return Finding(f"From {footing}, {head[0].lower()}{head[1:]}, {claim}", numbers, verdict)


def _difference(item: dict | None) -> Cell:
    if item is None:
        return absent("–")
    low, high = item.get("interval") or (0.0, 0.0)
    bounds = (low, high) if item.get("interval") else None
    return Cell(
        text=signed_text(item["difference"]),
        detail=interval_text(bounds) if bounds else "no interval",
        value=item["difference"],
        interval=bounds,
        best=bounds is not None and told_apart(bounds, item.get("discordant", 0)),
    )


def _named(name: str, spec: ReportSpec) -> str:
    """The entry's name with the setting's label in place of its key."""
    key, comma, rest = name.partition(", ")
    setting = spec.setting(key)
    return f"{setting.label if setting else key}{comma}{rest}"


def _column(metric: str, measure: Measure | None) -> Column:
    """The column of a measure; `metric` is its heading if no metric of the report has the measure."""
    return Column(metric, measure.label, measure.better) if measure else Column(metric, metric)
