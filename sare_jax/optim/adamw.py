"""AdamW with torch's habits: constant rate, decay of every leaf, no clipping."""

import functools
from dataclasses import dataclass

import jax
import optax


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("learning_rate", "weight_decay"),
    meta_fields=("b1", "b2", "eps"),
)
@dataclass(frozen=True)
class AdamW:
    """A settings section of its own (`optim.adamw`, `attack.adamw`); a further option is a field here.

    As an argument of a compiled function its rates are arrays, and runs that differ in them share a program;
    the other fields are part of the program, where optax folds them as Python numbers.
    """

    #: Constant over the run.
    learning_rate: float = 1e-5
    #: On every trainable leaf, multiplied by the rate (decoupled).
    weight_decay: float = 0.05
    #: Decay of the mean of gradients.
    b1: float = 0.9
    #: Decay of the mean of squared gradients.
    b2: float = 0.999
    #: Added to the root of the latter.
    eps: float = 1e-8

    def check(self, where: str) -> None:
        """Raises ValueError where a field is out of range; `where` begins the message."""
        for name in ("learning_rate", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{where}.{name}: must not be negative, got {getattr(self, name)}")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{where}.{name}: must be at least 0 and below 1, got {getattr(self, name)}")
        if self.eps <= 0:
            raise ValueError(f"{where}.eps: must be above 0, got {self.eps}")


def adamw(settings: AdamW) -> optax.GradientTransformationExtraArgs:
    """The optimizer of these settings."""
    return optax.adamw(
        settings.learning_rate,
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
