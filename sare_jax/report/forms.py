"""The forms of the files that a report is made from, checked where they are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sare_jax.errors import UserError
from sare_jax.schema import checked


@dataclass(frozen=True)
class _Scan:
    alpha: list[float] = field(default_factory=list)
    loss: list[float | None] = field(default_factory=list)
    chair_s: list[float | None] = field(default_factory=list)
    chair_i: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Landscape:
    """`landscape.json`: run → direction → the loss and CHAIR along it."""

    runs: dict[str, dict[str, _Scan]] = field(default_factory=dict)
    rho: float | None = None


@dataclass(frozen=True)
class Comparison:
    """An entry of `comparisons.json`: a difference between two runs."""

    a: str
    b: str
    metric: str
    difference: float
    interval: tuple[float, float] | None = None
    name: str = ""
    note: str | None = None
    n: int = 0
    discordant: int = 0


@dataclass(frozen=True)
class _Footing:
    label: str
    unit: str
    gap: float
    bound: float


@dataclass(frozen=True)
class _AtFooting:
    footings: list[_Footing]
    n: int
    discordant: int
    note: str


@dataclass(frozen=True)
class Metrics:
    """`metrics/<run>/<setting>.json`; each metric's own entries are checked where a number is read."""

    benchmarks: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A line of `answers/<run>/<setting>/captions.jsonl`."""

    image_id: int | str
    text: str
    image: str = ""
    finish_reason: str | None = None


@dataclass(frozen=True)
class Logged:
    """A line of `logs/<run>.jsonl`; of its other entries the numbers alone are drawn."""

    step: float = 0.0


@dataclass(frozen=True)
class _Thresholds:
    t0: float | None = None
    t1: float | None = None
    t2: float | None = None


@dataclass(frozen=True)
class _Scores:
    quantiles: list[float] = field(default_factory=list)
    objects: list[float] | None = None
    captions: list[float] | None = None


@dataclass(frozen=True)
class _Found:
    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True)
class _Audit:
    auc: float | None = None
    hallucinated: float | None = None
    neg: _Found = _Found()
    pos: _Found = _Found()
    sent: _Found = _Found()


@dataclass(frozen=True)
class Manifest:
    """`curated/manifest.json`: what was chosen, what was left out, and what an audit says of it."""

    counts: dict[str, int] = field(default_factory=dict)
    thresholds: _Thresholds = _Thresholds()
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: _Scores = _Scores()
    audit: _Audit = _Audit()


@dataclass(frozen=True)
class Masking:
    """`masking/<run>.json`: losses of a neutral text in nats a token, before and after learning it."""

    steps: int
    before: float
    after: float
    gained: float


@dataclass(frozen=True)
class _Separation:
    n: int
    n_openings: int
    rule: str
    grounded: float | None = None
    invented: float | None = None
    auc: float | None = None
    intervals: dict[str, tuple[float, float] | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Moved:
    l2: float
    largest: float


@dataclass(frozen=True)
class _Displacement:
    from_base: _Moved
    by_attack: _Moved | None = None


@dataclass(frozen=True)
class Probe:
    """`probes/<run>/<setting>.json`: what the weights know, and how far they moved."""

    separation: _Separation
    displacement: _Displacement


@dataclass(frozen=True)
class Attack:
    """`attacks/<run>/<setting>.json`; an attack that teaches half of the categories names both halves."""

    taught: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)


def check_comparisons(content: list[Any], where: str) -> None:
    """Refuses entries of `comparisons.json` that are at equal footing and lack what is said of it."""
    for number, entry in enumerate(content):
        if entry.get("footings"):
            checked(entry, _AtFooting, f"{where}[{number}]")


def check_attack(content: Mapping[str, Any], where: str) -> None:
    """Refuses an attack that names one half of the categories and not the other."""
    if ("taught" in content) != ("held_out" in content):
        raise UserError(f"{where}: has one of 'taught' and 'held_out' alone")


def check_manifest(content: Mapping[str, Any], where: str) -> None:
    """Refuses scores of `curated/manifest.json` that are not one for each quantile."""
    scores = content.get("scores", {})
    for name in ("objects", "captions"):
        if scores.get(name) and len(scores[name]) != len(scores.get("quantiles", [])):
            raise UserError(f"{where}: 'scores' has other numbers of 'quantiles' and {name!r}")
