"""One attack, whatever its kind."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AttackConfig:
    """One attack (stage 5). What its kind asks for besides stands in that kind's own dataclass.

    In the config, `attacks.NAME` has the keys of both, and `attack` values that attacks share.
    """

    kind: str = "relearn"
    """Short name in `sare_jax.attacks.ATTACKS`, or `module:name` of an `Attack`."""
    runs: str = ""
    """Comma-separated runs that are attacked, `base` among them; empty is all of them."""
    settings: Any = None
    """Values of the kind's own dataclass."""
