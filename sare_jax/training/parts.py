"""The number of micro-batches of a step where the settings leave it to memory."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from sare_jax.data.batches import Batch
from sare_jax.errors import UserError
from sare_jax.models.interface import LoadedModel
from sare_jax.settings.auto import AUTO, Lowered, Sizer
from sare_jax.settings.optim import OptimConfig
from sare_jax.training.sharding import by_rows, gathering, replicated
from sare_jax.training.state import init_state


def allowed(batch_size: int, devices: int) -> list[int]:
    """Numbers of micro-batches, rising, each of which leaves a device fewer rows at a time than the last."""
    divisors = [parts for parts in range(1, batch_size + 1) if batch_size % parts == 0]
    return [parts for parts in divisors if parts == 1 or devices * parts <= batch_size]


def fewest(
    sizer: Sizer | None,
    lowered: Callable[[int], Lowered],
    settings: OptimConfig,
    mesh: Mesh,
    about: Mapping[str, Any],
) -> int:
    """The fewest micro-batches that fit.

    Args:
      sizer: chooses.
      lowered: lowers the step for so many.
      settings: of the run.
      mesh: the devices.
      about: JSON-able values on which the step's memory depends beside its settings.

    Raises:
      UserError: there is no sizer, or one row at a time does not fit.
    """
    if sizer is None:
        raise UserError(f"optim.micro_batches: {AUTO} needs a run's own devices; give a number here")
    return sizer.parts(lowered, allowed=allowed(settings.batch_size, mesh.size), about=about)


def lowered_step(
    step: jax.stages.Wrapped,
    loaded: LoadedModel,
    batch: Mapping[str, Batch],
    length: int,
    optimizer: optax.GradientTransformation,
    hyper: Any,
    mesh: Mesh,
) -> Lowered:
    """A training step for batches like one, with the longest rows and the largest images.

    Args:
      step: from `compile_step`.
      loaded: the model on the mesh.
      batch: as the data gives it, with image names.
      length: tokens of the longest row.
      optimizer: makes the state.
      hyper: numbers of the step.
      mesh: the devices.
    """
    shape, rows, whole = loaded.shape, by_rows(mesh), replicated(mesh)
    dtype = jax.tree.leaves(loaded.frozen)[0].dtype

    def array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=rows)

    def widened(path: tuple, x: np.ndarray) -> jax.ShapeDtypeStruct:
        is_tokens = path[-1] == jax.tree_util.DictKey("tokens")
        return array((x.shape[0], length) if is_tokens else x.shape, x.dtype)

    groups: dict[str, Any] = {}
    for name, part in batch.items():
        arrays = {key: value for key, value in part.items() if key != "image"}
        groups[name] = jax.tree_util.tree_map_with_path(widened, arrays)
        if "image" in part:
            image = (len(part["image"]), shape.num_image_features, shape.feature_width)
            groups[name]["features"] = array(image, dtype)
    state = jax.eval_shape(lambda params: init_state(params, optimizer, seed=0), loaded.params)
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state)
    with gathering(mesh):
        return Lowered(step.lower(state, loaded.frozen, groups, hyper), (state, loaded.frozen, groups))
