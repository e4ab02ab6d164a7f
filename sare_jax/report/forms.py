"""The forms of what the report stage leaves for the page, checked where the page is written from it."""

from dataclasses import dataclass, field
from typing import Any

from sare_jax.schema import checked


@dataclass(frozen=True)
class _Scan:
    alpha: list[float] = field(default_factory=list)
    loss: list[float | None] = field(default_factory=list)
    chair_s: list[float | None] = field(default_factory=list)
    chair_i: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class _Landscape:
    runs: dict[str, dict[str, _Scan]] = field(default_factory=dict)
    rho: float | None = None


@dataclass(frozen=True)
class _Comparison:
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


def check_landscape(content: dict[str, Any], where: str) -> None:
    """Refuses a `landscape.json` of another form; names the key."""
    checked(content, _Landscape, where)


def check_comparisons(content: list[Any], where: str) -> None:
    """Refuses a `comparisons.json` of another form; names entry and key."""
    checked(content, list[_Comparison], where)
    for number, entry in enumerate(content):
        if entry.get("footings"):
            checked(entry, _AtFooting, f"{where}[{number}]")
