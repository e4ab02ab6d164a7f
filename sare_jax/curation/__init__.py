"""The PyTorch side: captions and images in, D_neg, D_pos and D_sent out as arrays. Never imports jax."""

from typing import TYPE_CHECKING

from sare_jax.lazy import names_of

if TYPE_CHECKING:
    from sare_jax.curation.recipe import Recipe, recipe_of
    from sare_jax.curation.select import Thresholds
    from sare_jax.curation.stage import curate

__all__ = ["Recipe", "Thresholds", "curate", "recipe_of"]

__getattr__, __dir__ = names_of(
    __name__,
    {
        "Recipe": "sare_jax.curation.recipe",
        "Thresholds": "sare_jax.curation.select",
        "curate": "sare_jax.curation.stage",
        "recipe_of": "sare_jax.curation.recipe",
    },
)
