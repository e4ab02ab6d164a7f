"""What a layer keeps of its forward pass for the backward one."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from sare_jax.training.sharding import FSDP

Policy = Callable[..., bool]


def remat_policy(name: str, mesh: Mesh) -> Policy | None:
    """The `jax.checkpoint` policy of `model.remat`.

    Args:
      name: `full` keeps a layer's input alone and computes the layer again; `dots` keeps its products with
        weights; `none` keeps everything.
      mesh: where weights are divided, `none` still gathers them again instead of keeping the whole model.

    Returns:
      For `Llama.__call__`; None keeps everything.
    """
    if name == "none":
        return _all_but_gathered if mesh.shape[FSDP] > 1 else None
    policies = jax.checkpoint_policies
    return {"full": policies.nothing_saveable, "dots": policies.dots_with_no_batch_dims_saveable}[name]


def _all_but_gathered(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name != "sharding_constraint"
