"""Targeted-SAM and the erasing objectives. Depends on jax and optax alone."""

from sare_jax.optim.targeted_sam import TargetedSamState, targeted_sam

__all__ = ["TargetedSamState", "targeted_sam"]
