"""What a run would take: parameters, mesh, memory and least seconds, without weights or running it."""

from sare_jax.plan.card_page import plan_card
from sare_jax.plan.page import plan

__all__ = ["plan", "plan_card"]
