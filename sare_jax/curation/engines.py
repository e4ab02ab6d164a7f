"""Which engine runs the batches of scoring: this process, or Ray Data for more machines."""

from typing import Literal

from sare_jax.curation.scored import Engine, local
from sare_jax.errors import UserError

EngineName = Literal["local", "ray"]


def engine_of(name: EngineName) -> Engine:
    """The engine of a name.

    Raises:
      UserError: Ray is asked for and not installed.
    """
    if name == "local":
        return local
    try:
        from sare_jax.curation.engine_ray import on_ray  # Ray is an optional extra
    except ModuleNotFoundError as error:
        raise UserError(
            f"engine ray: the package {error.name} is not installed; "
            "pip install -r requirements-ray.txt on every machine"
        ) from None
    return on_ray
