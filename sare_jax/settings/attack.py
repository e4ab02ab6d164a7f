"""Settings that attacks of every kind have."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AttackConfig:
    """One attack (stage 5). The settings of its kind are a dataclass of that kind's own.

    In the config, `attacks.NAME` holds the keys of both, and `attack` the values that all attacks share.
    """

    kind: str = "relearn"
    """Short name in `sare_jax.attacks.ATTACKS`, or `module:name` of an `Attack`."""
    runs: str = ""
    """Comma-separated runs that are attacked, `base` among them; empty is all of them."""
    settings: Any = None
    """Values of the kind's own dataclass."""
