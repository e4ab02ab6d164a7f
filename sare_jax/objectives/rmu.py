"""Representation misdirection: activations on hallucinations are drawn to a random direction."""

import functools

import jax
import jax.numpy as jnp

from sare_jax.objectives import Objective
from sare_jax.objectives.likelihood import token_mean
from sare_jax.objectives.needs import Activations, StartingActivations


def rmu(layer: int = 8, steering: float = 20.0, seed: int = 0) -> Objective:
    """L_neg is `misdirection`, and retention by `displacement` from the starting weights' activations.

    Args:
      layer: the language model's layer, counted from 1, whose output is steered; open-unlearning's
        `layers.7` is the eighth.
      steering: length c ≥ 0 of the vector that the activations are drawn to (20 in open-unlearning's code, 2
        in its settings).
      seed: draws its direction.

    Raises:
      ValueError: a value is out of range.
    """
    if layer < 1:
        raise ValueError(f"layer: must be at least 1, got {layer}")
    if steering < 0:
        raise ValueError(f"steering: must not be negative, got {steering}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: must be from 0 to 2³² − 1, got {seed}")
    return Objective(
        functools.partial(misdirection, steering=steering, seed=seed),
        displacement,
        needs=(Activations(layer), StartingActivations(layer)),
    )


def misdirection(
    log_probs: jax.Array, mask: jax.Array, activations: jax.Array, *, steering: float, seed: int = 0
) -> jax.Array:
    r"""RMU's loss of what is to be forgotten (Li et al. 2024), as open-unlearning has it.

    .. math:: L_{neg} = \tfrac{1}{n D} \sum_t \| h_t - c\, u \|^2

    :math:`u` is a vector of D numbers drawn evenly from [0, 1), divided by its length, so one of the positive
    orthant, as in the public code. There :math:`h_t` stands at the target tokens; here where these are
    predicted, one position before.

    Args:
      log_probs: not used.
      mask: bool[..., W], which target tokens count.
      activations: float32[..., W, D], output of the layer.
      steering: c.
      seed: draws :math:`u`.

    Returns:
      float32[...]; 0 where no token counts.
    """
    direction = jax.random.uniform(jax.random.key(seed), activations.shape[-1:])
    target = steering * direction / jnp.linalg.norm(direction)
    return _mean_square(activations - target, mask)


def displacement(
    log_probs: jax.Array, mask: jax.Array, activations: jax.Array, starting_activations: jax.Array
) -> jax.Array:
    """Mean square of how far activations have moved from those of the starting weights.

    Args and returns as in `misdirection`; `starting_activations` float32[..., W, D].
    """
    return _mean_square(activations - starting_activations, mask)


def _mean_square(difference: jax.Array, mask: jax.Array) -> jax.Array:
    return token_mean(jnp.mean(jnp.square(difference), axis=-1), mask)
