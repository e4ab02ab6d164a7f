"""Seconds that a card cannot do without, and the largest batch that fits onto it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sare_jax.plan.cards import Card
from sare_jax.plan.hlo import Deeds
from sare_jax.plan.work import Work

SPARE = 0.1  # share of a card's memory that a plan leaves free
_BY_LINE = 6  # peaks after which a search goes on by halving, for memory that grows by leaps
TYPICAL = 0.4  # share of the peaks that well-kept programs reach, for the second figure


@dataclass(frozen=True)
class Bound:
    """Seconds at the card's full peaks; the three overlap, so a run takes at least the longest.

    Attributes:
      products: of matrix products.
      memory: of reading weights, keys and values once a use.
      links: of moving data between cards.
    """

    products: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        """The longest of them."""
        return max(self.products, self.memory, self.links)

    @property
    def limit(self) -> str:
        """Which one that is, for people."""
        named = {"products": self.products, "memory": self.memory, "links": self.links}
        return max(named, key=lambda name: named[name])


def bound_of(work: Work, deeds: Deeds, card: Card, devices: int) -> Bound:
    """The bound of one run of a program.

    Args:
      work: of one device.
      deeds: of the compiled program; a ring moves (n − 1) / n of what is gathered, and twice that where it is
        summed.
      card: gives the peaks.
      devices: n.
    """
    factor = (devices - 1) / devices
    weight = {"all-reduce": 2.0, "reduce-scatter": float(devices)}
    moved = sum(each.bytes * factor * weight.get(kind, 1.0) for kind, each in deeds.collectives.items())
    return Bound(work.flops / card.dense, work.bytes / card.bandwidth, moved / card.link)


def fits(peak: int, card: Card) -> bool:
    """Whether a program leaves `SPARE` of the card's memory free."""
    return peak <= (1 - SPARE) * card.memory


def last_fitting(peak: Callable[[int], float], limit: float, count: int, start: int) -> int:
    """The last of some programs, in the order of the memory that they take, that fits; to within an eighth.

    Memory grows nearly in proportion, so a line through two peaks says where to look next. What it says is
    tried, and then an eighth above, so that four peaks are mostly enough, each of which may take minutes.

    Args:
      peak: place of a program → bytes at its peak.
      limit: most bytes that fit.
      count: number of programs; places are 0 to `count` − 1.
      start: place to begin with.

    Returns:
      A place that fits; −1 where not even place 0 does.
    """
    low, high = -1, count
    known: dict[int, float] = {}
    place = min(start, count - 1)
    while high - low > max(1, (low + 1) // 8):
        known[place] = peak(place)
        low, high = (place, high) if known[place] <= limit else (low, place)
        place = _next(known, limit, low, high, count)
    return low


def _next(known: dict[int, float], limit: float, low: int, high: int, count: int) -> int:
    """Where to look next, between the last place that fits and the first that does not."""
    if high == count and len(known) == 1:
        guess = 2 * low + 1
    elif low < 0 and len(known) == 1:
        guess = high // 2
    elif len(known) > _BY_LINE:
        guess = (low + high) // 2
    else:
        guess = max(_by_line(known, limit, low, high), low + max(1, (low + 1) // 8))
    return max(low + 1, min(guess, high - 1))


def _by_line(known: dict[int, float], limit: float, low: int, high: int) -> int:
    """Where the line through the two known places next to `low` and `high` reaches the limit."""
    first, second = sorted(sorted(known, key=lambda place: min(abs(place - low), abs(place - high)))[:2])
    slope = (known[second] - known[first]) / (second - first)
    if not 0 < slope < math.inf:
        return (low + high) // 2
    return math.floor(first + (limit - known[first]) / slope)
