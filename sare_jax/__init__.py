"""SARE: sharpness-aware robust erasure of hallucinations in multimodal LLMs, in JAX.

The names below are for notebooks and scripts (docs/python.md); each brings its libraries along when it is
first used, so that importing this package costs nothing. The parts are in the rooms: `sare_jax.optim` with
`targeted_sam`, `sare_jax.objectives`, `sare_jax.models`, `sare_jax.evaluation`, `sare_jax.attacks`.
"""

from typing import TYPE_CHECKING

from sare_jax.lazy import names_of

if TYPE_CHECKING:
    from sare_jax.api.model import Model, load, unlearn
    from sare_jax.api.texts import Sets, chair, curate

__all__ = ["Model", "Sets", "chair", "curate", "load", "unlearn"]

__getattr__, __dir__ = names_of(
    __name__,
    {
        "Model": "sare_jax.api.model",
        "Sets": "sare_jax.api.texts",
        "chair": "sare_jax.api.texts",
        "curate": "sare_jax.api.texts",
        "load": "sare_jax.api.model",
        "unlearn": "sare_jax.api.model",
    },
)
