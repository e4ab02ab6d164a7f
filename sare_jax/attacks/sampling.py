"""Asking several times at a temperature: nothing is trained, and the worst of the captions counts."""

from dataclasses import dataclass

from sare_jax.attacks.interface import Asking, Attack
from sare_jax.settings.building import above_zero, at_least


@dataclass(frozen=True)
class Sampling:
    """How often is asked, and how captions are drawn."""

    draws: int = 8
    """Captions of each image; the one that invents most is measured (`sare_jax.evaluation.worst`)."""
    temperature: float = 1.0
    """Temperature of the draws; what `decoding` says of top-k, top-p and stops holds here too."""
    seed: int = 0
    """Seed of the draws."""

    def check(self, where: str) -> None:
        """Refuses values out of range."""
        at_least(self.draws, 1, f"{where}.draws")
        above_zero(self.temperature, f"{where}.temperature")


def _asking(settings: Sampling) -> Asking:
    return Asking(temperature=settings.temperature, seed=settings.seed, draws=settings.draws)


ATTACK = Attack(settings=Sampling, asking=_asking)
