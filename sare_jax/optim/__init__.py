"""Targeted-SAM and its relatives. Depends on jax and optax alone."""

from sare_jax.optim.adamw import AdamW, adamw
from sare_jax.optim.averaging import averaged_params, exponential_average, uniform_average
from sare_jax.optim.logged import logged
from sare_jax.optim.perturbation import Perturbation
from sare_jax.optim.skipping import skip_nonfinite
from sare_jax.optim.smoothing import gradient_norm_penalty, randomized_smoothing
from sare_jax.optim.targeted_sam import (
    RefreshedSamState,
    TargetedSamState,
    first_pass,
    refresh_is_due,
    targeted_sam,
)

__all__ = [
    "AdamW",
    "Perturbation",
    "RefreshedSamState",
    "TargetedSamState",
    "adamw",
    "averaged_params",
    "exponential_average",
    "first_pass",
    "gradient_norm_penalty",
    "logged",
    "randomized_smoothing",
    "refresh_is_due",
    "skip_nonfinite",
    "targeted_sam",
    "uniform_average",
]
