"""Attempts to bring the erased hallucinations back, one file each, with its settings beside it.

A new attack is a file with its settings and an `Attack`, and a line in `ATTACKS`; somebody's own is named
`module:name` in the config. The modules import JAX only when they attack, since the command line reads their
settings.
"""

from sare_jax.attacks.interface import (
    AS_CONFIGURED,
    Asking,
    Attack,
    Attacked,
    Pictures,
    PlannedStep,
    Planning,
    Tools,
)
from sare_jax.extensions import resolve

ATTACKS = {
    "relearn": "sare_jax.attacks.relearn:ATTACK",
    "relearn_disjoint": "sare_jax.attacks.relearn_disjoint:ATTACK",
    "benign": "sare_jax.attacks.benign:ATTACK",
    "rounding": "sare_jax.attacks.rounding:ATTACK",
    "prompt": "sare_jax.attacks.prompt:ATTACK",
    "sampling": "sare_jax.attacks.sampling:ATTACK",
    "lora": "sare_jax.attacks.lora:ATTACK",
}

__all__ = [
    "AS_CONFIGURED",
    "ATTACKS",
    "Asking",
    "Attack",
    "Attacked",
    "Pictures",
    "PlannedStep",
    "Planning",
    "Tools",
    "attack_of",
]


def attack_of(kind: str, where: str) -> Attack:
    """The attack that `attacks.NAME.kind` names.

    Args:
      kind: a short name of `ATTACKS`, or `module:name`.
      where: the attack's section in the config, for messages.

    Raises:
      UserError: there is no such attack.
    """
    return resolve(kind, ATTACKS, f"{where}.kind")
