"""Which engine runs the batches of scoring: this process, or Ray Data for more machines."""

from typing import Literal

from sare_jax.curation.scored import Engine, local

EngineName = Literal["local", "ray"]


def engine_of(name: EngineName) -> Engine:
    """The engine of a name."""
    if name == "local":
        return local
    from sare_jax.curation.engine_ray import on_ray  # an extra of its own

    return on_ray
