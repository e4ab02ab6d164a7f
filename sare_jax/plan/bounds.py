"""Seconds that a card cannot do without, and the largest batch that fits onto it."""

from collections.abc import Callable
from dataclasses import dataclass

from sare_jax.plan.cards import Card
from sare_jax.plan.hlo import Deeds
from sare_jax.plan.work import Work

SPARE = 0.1  # share of a card's memory that a plan leaves free
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


def largest(fitting: Callable[[int], bool], start: int, multiple: int) -> int:
    """The most rows that fit, to within an eighth, by doubling or halving and then bisection.

    Args:
      fitting: whether so many rows fit.
      start: rows to begin with, a multiple of `multiple`.
      multiple: what rows are a multiple of.

    Returns:
      A number that fits; 0 where not even `multiple` rows do.
    """
    low, high = 0, 0
    rows = start
    while not high or not low:
        if fitting(rows):
            low = rows
            rows *= 2
        else:
            high = rows
            rows = rows // 2 // multiple * multiple
        if not low and not rows:
            return 0
        if low and high:
            break
    while high - low > max(multiple, low // 8):
        middle = (low + high) // 2 // multiple * multiple
        if middle == low:
            break
        low, high = (middle, high) if fitting(middle) else (low, middle)
    return low
