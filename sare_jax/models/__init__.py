"""Flax NNX models; beside each, the table that maps its names to the Hugging Face ones."""

from typing import TYPE_CHECKING

from sare_jax.lazy import names_of

if TYPE_CHECKING:
    from sare_jax.models.families import FAMILIES, open_source
    from sare_jax.models.interface import Family, LoadedModel
    from sare_jax.models.load import load_model

__all__ = ["FAMILIES", "Family", "LoadedModel", "load_model", "open_source"]

__getattr__, __dir__ = names_of(
    __name__,
    {
        "FAMILIES": "sare_jax.models.families",
        "Family": "sare_jax.models.interface",
        "LoadedModel": "sare_jax.models.interface",
        "load_model": "sare_jax.models.load",
        "open_source": "sare_jax.models.families",
    },
)
