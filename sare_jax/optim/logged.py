"""The numbers that the transforms keep for logging, wherever they stand in a chain."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim.skipping import SkipNonfiniteState
from sare_jax.optim.smoothing import GradientNormState, SmoothedState
from sare_jax.optim.targeted_sam import RefreshedSamState, TargetedSamState

_STATES = (TargetedSamState, RefreshedSamState, GradientNormState, SmoothedState, SkipNonfiniteState)
_NOT_LOGGED = ("memory", "key", "inner_state")


def logged(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """Metrics of the last update.

    Args:
      opt_state: state of a transform of this package, also inside of a chain, of
        `optax.inject_hyperparams` or of `skip_nonfinite`.

    Returns:
      float32[] values by name: `neg_grad_norm`, and with `targeted_sam` `eps_norm` and `cosine`, with
      `gradient_norm_penalty` `curvature`; with `skip_nonfinite` `skipped` and `skipped_in_a_row`. After a
      skipped step the others are those of the last sound one. Empty where there is none of them.
    """
    metrics: dict[str, jax.Array] = {}
    for node in jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, _STATES)):
        if isinstance(node, _STATES):
            metrics |= _scalars(node)
        if isinstance(node, SkipNonfiniteState):
            metrics |= logged(node.inner_state)
    return metrics


def _scalars(state: NamedTuple) -> dict[str, jax.Array]:
    values = state._asdict()
    return {name: jnp.asarray(values[name], jnp.float32) for name in values if name not in _NOT_LOGGED}
