"""An attack from outside: noise of a given length on the tuned weights."""

from dataclasses import dataclass

import jax
import optax

from sare_jax.attacks import Attack, Attacked, Tools
from sare_jax.settings.building import at_least


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, scaled to an L2 norm."""

    length: float = 0.1
    """L2 norm of the change."""
    seed: int = 0
    """Of the draw."""

    def check(self, where: str) -> None:
        """Refuses a negative length."""
        at_least(self.length, 0, f"{where}.length")


def _weights(tools: Tools, params: dict, settings: Noise) -> Attacked:
    noise = optax.tree.random_like(jax.random.key(settings.seed), params)
    factor = settings.length / optax.tree.norm(noise)
    moved = jax.tree.map(lambda x, n: x + factor * n, params, noise)
    return Attacked(moved, {"length": settings.length})


ATTACK = Attack(settings=Noise, weights=_weights)
