"""Frontiers as tables and sentences, from `frontier.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from sare_jax.report.attacked import NO_BASE
from sare_jax.report.finding import Finding, Verdict
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
    plain,
    signed_text,
)

NOT_REACHED = "not reached"
_INTERVALS = (
    "Small figures: 95 % intervals by bootstrap over base models, seeds and images, the same resamples for "
    "all methods; none where fewer than 90 % of the resamples reach it. Bold: the interval excludes 0."
)
_VERDICTS: dict[str, Verdict] = {"below": "better", "above": "worse", "neither": "none"}
_VALUES = (
    Column("before", "CHAIR_S before", "lower"),
    Column("after", "CHAIR_S after", "lower"),
    Column("given_back", "given back"),
    Column("excess", "excess", "lower", "Given back by the method minus given back by the base model."),
    Column("words", "Words before"),
)


def tables(frontier: Mapping[str, Any]) -> list[Table]:
    """Values at each recall, areas between curves, and the points of the curves."""
    return [table for table in (_at(frontier), _areas(frontier), _points(frontier)) if table.groups[0].rows]


def basis(frontier: Mapping[str, Any]) -> str:
    """How many base models, seeds and images the numbers come from, and which attack, in words."""
    models, seeds = frontier["workdirs"], frontier["seeds"]
    many = len(models) > 1
    pooled = f"{len(models)} base models ({', '.join(models)}), pooled" if many else "one base model"
    orders = f"{len(seeds)} seeds of the order of samples" if len(seeds) > 1 else "one seed"
    return f"{pooled}; {orders}; {frontier['images']} images; attack {frontier['attack']}"


def headline(frontier: Mapping[str, Any], ours: str, baseline: str, equal_words: float) -> Finding | None:
    """How two methods compare at the highest recall that both reach; None if they are one or lack a curve.

    Args:
      frontier: contents of `frontier.json`.
      ours: name of the method that is judged.
      baseline: name of the method that it is compared with.
      equal_words: number of words by which mean caption lengths may differ; beyond it the two are not
        comparable.
    """
    if (
        ours == baseline
        or ours not in frontier["methods"]
        or baseline not in frontier["methods"]
        or frontier["reference"] != baseline
    ):
        return None
    name, other = frontier["labels"][ours], frontier["labels"][baseline]
    for recall in sorted(frontier["recalls"], reverse=True):
        change = _entry(frontier["differences"], recall, method=ours)
        if change and change["after"]["value"] is not None:
            return _versus(frontier, (ours, baseline), recall, change, equal_words)
    reach = "; ".join(
        f"{frontier['labels'][method]} {number_text(low)} to {number_text(high)}"
        for method in (ours, baseline)
        for low, high in [frontier["methods"][method]["range"]]
    )
    levels = " or ".join(f"{recall:g}" for recall in sorted(frontier["recalls"]))
    claim = f"{name} and {other} do not both reach a recall of {levels}, so they are not comparable there"
    return Finding(claim, f"recall before the attack: {reach}", "open")


def excess_sentence(frontier: Mapping[str, Any], method: str, recall: float) -> str:
    """What the attack adds to a method beyond what it teaches the base model; empty where it is not known."""
    at = _entry(frontier["methods"][method]["at"], recall)
    if at is None or at["given_back"]["value"] is None:
        return ""
    name = frontier["labels"][method]
    points = number_text(at["given_back"]["value"])
    given = f"At a recall of {recall:g} the attack adds {points} points of CHAIR_S to {name}"
    if at["excess"]["value"] is None:
        return f"{given}; the base model was not attacked, so what it teaches is not known."
    by_base = number_text(at["given_back"]["value"] - at["excess"]["value"])
    numbers = f"excess {signed_text(at['excess']['value'])}{_bounds(at['excess'])}"
    told = {
        "below": "less than it teaches",
        "above": "more than it teaches",
        "neither": "not told apart from what it teaches",
    }[_side(at["excess"])]
    return f"{given}, {told} the base model, which has unlearned nothing ({by_base} points): {numbers}."


def best_recall(frontier: Mapping[str, Any], ours: str) -> float | None:
    """The highest recall at which the method is compared with the reference; None where there is none."""
    reached = [
        item["recall"]
        for item in frontier["differences"]
        if item["method"] == ours and item["after"]["value"] is not None
    ]
    return max(reached, default=None)


def sentences(frontier: Mapping[str, Any], ours: str) -> list[Finding]:
    """What the area between the curves says of each method against the reference, ours first."""
    told = []
    for area in sorted(frontier["areas"], key=lambda item: item["method"] != ours):
        name, other = frontier["labels"][area["method"]], frontier["labels"][area["reference"]]
        if area["range"] is None:
            claim = f"The curves of {name} and {other} share no recall, so they are not comparable"
            told.append(Finding(claim, "", "open"))
            continue
        low, high = map(number_text, area["range"])
        side = _side(area["after"]["mean"])
        claim = f"After the attack the curve of {name} lies {side} that of {other}"
        if side == "neither":
            claim = f"After the attack the curves of {name} and {other} are not told apart"
        numbers = "; ".join(
            f"{key} the attack {signed_text(area[key]['mean']['value'])} points of CHAIR_S on average"
            f"{_bounds(area[key]['mean'])}"
            for key in ("after", "before")
        )
        told.append(
            Finding(claim, f"{numbers}; over recall {low} to {high} before the attack", _VERDICTS[side])
        )
    return told


def _versus(
    frontier: Mapping[str, Any],
    pair: tuple[str, str],
    recall: float,
    change: Mapping[str, Any],
    equal_words: float,
) -> Finding:
    ours, baseline = pair
    name, other = frontier["labels"][ours], frontier["labels"][baseline]
    side = _side(change["after"])
    claim = {
        "below": f"{name} hallucinates in fewer captions than {other} after the attack",
        "above": f"{name} hallucinates in more captions than {other} after the attack",
        "neither": f"no difference between {name} and {other} after the attack can be told",
    }[side]
    mine, theirs = (_entry(frontier["methods"][method]["at"], recall) or {} for method in pair)
    values = [number_text(at[key]["value"]) for at in (mine, theirs) for key in ("before", "after")]
    numbers = (
        f"CHAIR_S {values[0]} before the attack and {values[1]} after it, against {values[2]} and "
        f"{values[3]}; "
        f"difference after it {signed_text(change['after']['value'])}{_bounds(change['after'])}, before it "
        f"{signed_text(change['before']['value'])}{_bounds(change['before'])}; {basis(frontier)}"
    )
    words = [number_text(at["words"]["value"]) for at in (mine, theirs)]
    numbers += f"; captions of {words[0]} and {words[1]} words before the attack"
    where = f"At a recall of {recall:g} before the attack, "
    if round(abs(change["words"]["value"]), 1) > equal_words:
        claim = f"{name} and {other} are not comparable: the length of their captions differs"
        return Finding(where + claim, f"{numbers}, equal would be {number_text(equal_words)} at most", "open")
    return Finding(where + claim, numbers, _VERDICTS[side])


def _entry(entries: Sequence[Mapping[str, Any]], recall: float, **wanted: str) -> Mapping[str, Any] | None:
    fitting = (
        item
        for item in entries
        if item["recall"] == recall and all(item[key] == value for key, value in wanted.items())
    )
    return next(fitting, None)


def _side(number: Mapping[str, Any]) -> str:
    """`below` or `above` where the interval excludes 0; `neither` where it holds 0 or there is none."""
    low, high = number["interval"] or (0.0, 0.0)
    return "below" if high < 0 else "above" if low > 0 else "neither"


def _bounds(number: Mapping[str, Any]) -> str:
    if number["interval"] is None:
        return f" (no interval: {100 * number['reached']:.0f} % of the resamples reach it)"
    return f" (95 % interval {interval_text(tuple(number['interval']))})"


def _at(frontier: Mapping[str, Any]) -> Table:
    others = any(item for item in frontier["differences"])
    reference = frontier["labels"].get(frontier["reference"], frontier["reference"])
    columns = list(_VALUES)
    if others:
        columns += [
            Column("before_difference", f"before, against {reference}", "lower"),
            Column("after_difference", f"after, against {reference}", "lower"),
        ]
    groups = []
    for recall in frontier["recalls"]:
        rows = []
        for method, item in frontier["methods"].items():
            at = next(at for at in item["at"] if at["recall"] == recall)
            cells = _value_cells(at)
            change = _entry(frontier["differences"], recall, method=method)
            if others:
                cells += [
                    _cell(change[key], signed=True, bold=True) if change else absent("–")
                    for key in ("before", "after")
                ]
            rows.append(Row(method, frontier["labels"][method], tuple(cells)))
        groups.append(Group(f"recall_{recall:g}", f"At recall {recall:g} before the attack", tuple(rows)))
    notes = (
        "Read by linear interpolation on each method's own curve, never beyond its points: "
        f"{basis(frontier)}.",
        _INTERVALS,
        *frontier["missing"],
    )
    return Table(
        "frontier",
        "CHAIR_S at equal recall before the attack",
        "Method",
        tuple(columns),
        tuple(groups),
        notes,
    )


def _areas(frontier: Mapping[str, Any]) -> Table:
    rows = []
    for item in frontier["areas"]:
        span = interval_text(tuple(item["range"])) if item["range"] else "none in common"
        cells = [plain(span)]
        for key in ("before", "after"):
            cells.append(_cell(item[key]["mean"], signed=True, bold=True, lacking="–"))
            cells.append(_cell(item[key]["area"], signed=True, lacking="–"))
        rows.append(Row(item["method"], frontier["labels"][item["method"]], tuple(cells)))
    reference = frontier["labels"].get(frontier["reference"], frontier["reference"])
    columns = (
        Column("range", "Recall in common"),
        Column("before_mean", "before: mean distance", "lower"),
        Column("before_area", "before: area", "lower"),
        Column("after_mean", "after: mean distance", "lower"),
        Column("after_area", "after: area", "lower"),
    )
    return Table(
        "frontier_areas",
        f"Between each method's curve and that of {reference}, in points of CHAIR_S",
        "Method",
        columns,
        (Group("", "", tuple(rows)),),
        (
            "Negative: the method's curve lies lower. Area: points of CHAIR_S times points of recall.",
            _INTERVALS,
        ),
    )


def _points(frontier: Mapping[str, Any]) -> Table:
    groups = []
    for method, item in frontier["methods"].items():
        rows = [
            Row(
                f"{point['weight']:g}",
                f"{frontier['weights'][method]} {point['weight']:g}",
                (
                    Cell(str(point["runs"]), value=point["runs"]),
                    *(_cell(point[key]) for key in ("recall", "before", "after", "recall_after")),
                    *_value_cells(point)[2:],
                ),
            )
            for point in item["points"]
        ]
        groups.append(Group(method, frontier["labels"][method], tuple(rows)))
    columns = (
        Column("runs", "runs"),
        Column("recall", "Recall before", "higher"),
        Column("before", "CHAIR_S before", "lower"),
        Column("after", "CHAIR_S after", "lower"),
        Column("recall_after", "Recall after", "higher"),
        *_VALUES[2:],
    )
    return Table(
        "frontier_points",
        "The points of the curves, each the mean of its runs",
        "Weight",
        columns,
        tuple(groups),
    )


def _value_cells(at: Mapping[str, Any]) -> list[Cell]:
    reached = at["before"]["value"] is not None
    return [
        _cell(at["before"]),
        _cell(at["after"]),
        _cell(at["given_back"], signed=True),
        _cell(at["excess"], signed=True, lacking=NO_BASE if reached else NOT_REACHED),
        _cell(at["words"]),
    ]


def _cell(
    number: Mapping[str, Any], *, signed: bool = False, bold: bool = False, lacking: str = NOT_REACHED
) -> Cell:
    if number["value"] is None:
        return plain(lacking)
    interval = tuple(number["interval"]) if number["interval"] else None
    best = bold and _side(number) != "neither"
    return (change_cell if signed else number_cell)(number["value"], interval=interval, best=best)
