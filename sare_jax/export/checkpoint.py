"""Tuned parameters of a run without loading the model they belong to."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp

from sare_jax.errors import UserError
from sare_jax.models.interface import Source
from sare_jax.models.load import content_hash
from sare_jax.models.shared.partition import Tree, unflatten
from sare_jax.schema import whole_number
from sare_jax.training.checkpoints import load_params, saved_shapes, steps_in


def find_step(path: Path) -> tuple[Path, int]:
    """The run's folder and the step that a path means: `folder/step`, or the newest of `folder`.

    Raises:
      UserError: there is no whole checkpoint.
    """
    path = Path(path).resolve()
    asked = whole_number(path.name)
    folder = path if asked is None else path.parent
    steps = steps_in(folder)
    if not steps:
        raise UserError(f"{folder}: no checkpoint there; name a folder that the unlearn stage has written")
    if asked is not None and asked not in steps:
        raise UserError(f"{folder}: no checkpoint of step {asked}; there are {', '.join(map(str, steps))}")
    return folder, steps[-1] if asked is None else asked


def read_tuned(folder: Path, step: int, source: Source, sharding: jax.sharding.Sharding) -> Tree:
    """Reads the tuned parameters of a checkpoint, a nested dictionary of float32 arrays.

    Args:
      folder: the run's folder of checkpoints.
      step: optimizer step at which the checkpoint was saved.
      source: the base model that was tuned.
      sharding: the devices on which the parameters shall lie.

    Raises:
      UserError: the checkpoint was made from another base model.
    """
    shapes = saved_shapes(folder, step)
    params = {
        path: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding) for path, shape in shapes.items()
    }
    base = SimpleNamespace(
        params=unflatten(params),
        folder=source.folder,
        content_hash=content_hash(source),
    )
    return load_params(folder, base, step=step)
