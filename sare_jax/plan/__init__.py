"""What a run would take: parameters, mesh and peak memory, without weights and without running it."""

from sare_jax.plan.page import plan

__all__ = ["plan"]
