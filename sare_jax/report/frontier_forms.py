"""The form of `frontier.json`, checked where a report is made from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sare_jax.errors import UserError

_AT_A_RECALL = ("before", "after", "words")
"""What a curve has where it reaches a recall, and lacks all of where it does not."""


@dataclass(frozen=True)
class _Number:
    value: float | None
    interval: tuple[float, float] | None
    reached: float


@dataclass(frozen=True)
class _Measured:
    value: float
    interval: tuple[float, float] | None
    reached: float


@dataclass(frozen=True)
class _At:
    recall: float
    before: _Number
    after: _Number
    words: _Number
    given_back: _Number
    excess: _Number


@dataclass(frozen=True)
class _Point:
    weight: float
    runs: int
    recall: _Measured
    before: _Measured
    after: _Measured
    recall_after: _Number
    words: _Number
    given_back: _Number
    excess: _Number


@dataclass(frozen=True)
class _Method:
    points: list[_Point]
    range: tuple[float, float]
    at: list[_At]


@dataclass(frozen=True)
class _Difference:
    method: str
    recall: float
    before: _Number
    after: _Number
    words: _Number


@dataclass(frozen=True)
class _Between:
    area: _Number
    mean: _Number


@dataclass(frozen=True)
class _Area:
    method: str
    reference: str
    range: tuple[float, float] | None
    before: _Between
    after: _Between


@dataclass(frozen=True)
class _Run:
    method: str
    recall: float
    before: float
    after: float


@dataclass(frozen=True)
class Frontier:
    """Contents of the file, as far as they are shown; `sare_jax.frontier.writing` makes it."""

    attack: str
    recalls: list[float]
    reference: str
    workdirs: list[str]
    seeds: list[int]
    images: int
    labels: dict[str, str]
    weights: dict[str, str]
    methods: dict[str, _Method]
    differences: list[_Difference]
    areas: list[_Area]
    runs: list[_Run]
    missing: list[str]


def check_frontier(content: Mapping[str, Any], where: str) -> None:
    """Refuses a `frontier.json` whose parts do not fit together; names what is lacking.

    Args:
      content: of the form of `Frontier`.
      where: the file, for the error.
    """
    methods = content["methods"]
    named = {item["method"] for key in ("differences", "areas", "runs") for item in content[key]}
    named |= {item["reference"] for item in content["areas"]}
    for method in named | methods.keys():
        lacking = [key for key in ("methods", "labels", "weights") if method not in content[key]]
        if lacking:
            raise UserError(f"{where}: {lacking[0]!r} has no {method!r}")
    for method, item in methods.items():
        if not item["points"]:
            raise UserError(f"{where}: {method!r} has no points")
        for recall in content["recalls"]:
            if not any(at["recall"] == recall for at in item["at"]):
                raise UserError(f"{where}: {method!r} has no 'at' a recall of {recall:g}")
        for at in item["at"]:
            _reaches(at, f"{where}: {method!r}")
    for number, change in enumerate(content["differences"]):
        name = f"{where}: 'differences'[{number}]"
        reached = _reaches(change, name)
        pair = (methods.get(content["reference"], {}), methods[change["method"]])
        sides = [at for item in pair for at in item.get("at", []) if at["recall"] == change["recall"]]
        if reached and (len(sides) < len(pair) or not all(_reaches(at, name) for at in sides)):
            raise UserError(f"{name}: is at a recall that one of the two does not reach")
    for number, area in enumerate(content["areas"]):
        means = (area[key]["mean"]["value"] for key in ("before", "after"))
        if area["range"] and None in means:
            raise UserError(f"{where}: 'areas'[{number}] has a range and no mean")


def _reaches(entry: Mapping[str, Any], where: str) -> bool:
    """Whether an entry has values; errors where it has some alone."""
    there = [key for key in _AT_A_RECALL if entry[key]["value"] is not None]
    if there and len(there) < len(_AT_A_RECALL):
        raise UserError(f"{where}: has {there[0]!r} alone at a recall of {entry['recall']:g}")
    return bool(there)
