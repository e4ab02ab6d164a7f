"""What a layer keeps of its forward pass for the backward one."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from sare_jax.models.shared.attention import ATTENDED
from sare_jax.training.sharding import FSDP

Policy = Callable[..., bool]


def remat_policy(name: str, mesh: Mesh) -> Policy | None:
    """The `jax.checkpoint` policy of `model.remat`.

    Args:
      name: `full` keeps a layer's input alone and computes the layer again; `dots` keeps its products with
        weights, and on a CPU the output of attention; `none` keeps everything.
      mesh: the run's devices; if weights are divided over them, `none` still gathers these weights again
        instead of keeping the whole model.

    Returns:
      The `remat_policy` of `Model.read`; None keeps everything.
    """
    if name == "none":
        return _all_but_gathered if mesh.shape[FSDP] > 1 else None
    return {"full": jax.checkpoint_policies.nothing_saveable, "dots": _dots}[name]


_dots = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(ATTENDED),
)


def _all_but_gathered(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name != "sharding_constraint"
