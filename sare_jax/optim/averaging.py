"""Averages of the parameters over a run, kept beside it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim import trees


class AverageState(NamedTuple):
    """State of the averaging transforms.

    Attributes:
      steps: int32[], finished steps.
      average: the averaged parameters, in float32 or a wider dtype.
    """

    steps: jax.Array
    average: optax.Params


def uniform_average(*, start: int, every: int = 1) -> optax.GradientTransformation:
    r"""Keeps the mean of the parameters after some steps, and changes no update.

    .. math:: \bar\theta = \frac{1}{n} \sum_{i=0}^{n-1} \theta_{start + i \cdot every}

    with :math:`\theta_t` the parameters after t steps; until then :math:`\bar\theta` follows
    :math:`\theta`. Stands last in its chain, since it has to know the updates as they are applied;
    `averaged_params` reads the result. Fan et al. 2025 have start 100 and every 5.

    Args:
      start: first step that counts.
      every: steps between two that count.

    Raises:
      ValueError: `start` or `every` is below 1; or, at update, there are no parameters.
    """
    if start < 1 or every < 1:
        raise ValueError(f"uniform_average: start and every must be at least 1, got {start} and {every}")

    def follow(average: optax.Params, params: optax.Params, steps: jax.Array) -> optax.Params:
        taken = (steps - start) // every + 1
        counts = (steps >= start) & ((steps - start) % every == 0)
        share = jnp.where(counts, 1 / jnp.maximum(taken, 1), 0)
        alone = taken <= 1  # taken over whole, since a + (θ − a) is rounded

        def one(mean: jax.Array, x: jax.Array) -> jax.Array:
            moved = mean + share.astype(mean.dtype) * (x - mean)
            return jnp.where(alone & (counts | (steps < start)), x, moved)

        return jax.tree.map(one, average, params)

    return _averaging("uniform_average", follow)


def exponential_average(decay: float) -> optax.GradientTransformation:
    r"""Keeps an exponential moving average of the parameters, and changes no update.

    .. math:: \bar\theta_t = decay \cdot \bar\theta_{t-1} + (1 - decay)\, \theta_t, \qquad
      \bar\theta_0 = \theta_0

    by `optax.incremental_update`. Stands last in its chain; `averaged_params` reads the result.

    Args:
      decay: in [0, 1).

    Raises:
      ValueError: `decay` is outside of [0, 1); or, at update, there are no parameters.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"exponential_average: decay must be in [0, 1), got {decay}")

    def follow(average: optax.Params, params: optax.Params, steps: jax.Array) -> optax.Params:
        del steps
        return optax.incremental_update(params, average, 1 - decay)

    return _averaging("exponential_average", follow)


def averaged_params(opt_state: optax.OptState, params: optax.Params) -> optax.Params:
    """The average that a transform of this module keeps somewhere in an optimizer's state.

    Args:
      opt_state: state of an optimizer chain that holds one transform of this module.
      params: the parameters that are averaged; the result takes their dtypes.

    Raises:
      ValueError: the state holds no average, or several.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, AverageState))
    states = [node for node in nodes if isinstance(node, AverageState)]
    if len(states) != 1:
        raise ValueError(f"averaged_params: the optimizer state holds {len(states)} averages, expected 1")
    return jax.tree.map(lambda mean, x: mean.astype(x.dtype), states[0].average, params)


def _averaging(name: str, follow: Any) -> optax.GradientTransformation:
    def init_fn(params: optax.Params) -> AverageState:
        # A copy: the parameters themselves may be donated.
        average = jax.tree.map(lambda x: jnp.array(trees.wide(x), copy=True), params)
        return AverageState(jnp.zeros((), jnp.int32), average)

    def update_fn(
        updates: optax.Updates, state: AverageState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AverageState]:
        if params is None:
            raise ValueError(f"{name}: call update(updates, state, params)")
        steps = state.steps + 1
        moved = jax.tree.map(trees.wide, optax.apply_updates(params, updates))
        return updates, AverageState(steps, follow(state.average, moved, steps))

    return optax.GradientTransformation(init_fn, update_fn)
