r"""L_pos, L_neg and L_sent of rows that each hold several units, as token-weighted sums.

A row is one caption behind its image; a unit is a run of its tokens. The row is run once, and every loss is
a sum over its tokens. Where units overlap, their weights add:

::

  tokens      a   man   with   a   red   hat
  unit 1          ½     ½                       weight 1, 2 tokens
  unit 2                ⅓      ⅓   ⅓            weight 1, 3 tokens
  row             ½     ⅚      ⅓   ⅓
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sare_jax.optim.objectives import UnitLoss, token_mean_nll


class Units(NamedTuple):
    """The units of one set in a batch of rows; one without tokens is padding and counts nowhere.

    Attributes:
      mask: bool[B, U, T], the target tokens of each unit.
      weight: float32[B, U], of each unit's loss; 1 without sample weights.
    """

    mask: jax.Array
    weight: jax.Array


def spans(start: jax.Array, end: jax.Array, length: int) -> jax.Array:
    """Masks of runs of tokens.

    Args:
      start: int32[B, U], first token.
      end: int32[B, U], the one after the last; equal to `start` for padding.
      length: T.

    Returns:
      bool[B, U, T].
    """
    place = jnp.arange(length)
    return (place >= start[..., None]) & (place < end[..., None])


def count_units(units: Units) -> jax.Array:
    """float32[], units that have tokens; at least 1, so that an empty set has loss and gradient 0.

    To be taken over the global batch: all devices, all micro-batches.
    """
    return jnp.maximum(jnp.sum(jnp.any(units.mask, -1), dtype=jnp.float32), 1)


def set_loss(log_probs: jax.Array, units: Units, unit_loss: UnitLoss, count: jax.Array) -> jax.Array:
    r"""Weighted mean over the units of a set, :math:`\frac{1}{count} \sum_{b,u} w_{bu} \ell_{bu}`.

    Args:
      log_probs: float32[B, T], log-probability of each token of the rows given those before it.
      units: of the set.
      unit_loss: of `sare_jax.optim.objectives`.
      count: float32[], units of the global batch, from `count_units`. Where `log_probs` is a part of that
        batch the result is the part's share, so that shares add up.

    Returns:
      float32[]. Weights do not change the divisor: L_k is a mean over units, not over weights.
    """
    losses = unit_loss(log_probs[:, None, :], units.mask)
    counts = jnp.any(units.mask, -1)
    # The product is inside: a padded unit's weight or loss may be anything.
    return jnp.sum(jnp.where(counts, units.weight * losses, 0)) / count


def row_losses(
    log_probs: jax.Array,
    sets: Mapping[str, Units],
    counts: Mapping[str, jax.Array],
    neg_loss: UnitLoss,
    retain_loss: UnitLoss = token_mean_nll,
) -> dict[str, jax.Array]:
    """The losses of all sets from one run of the rows.

    Args:
      log_probs: float32[B, T], as in `set_loss`.
      sets: `neg` and any others, of which one may be missing.
      counts: float32[] by set, of the global batch.
      neg_loss: erasing objective, of the set `neg`.
      retain_loss: of the others.

    Returns:
      float32[] by set: L_neg, L_pos, L_sent; and as `neg_ft` the L_ft of the negatives, for logging.
    """
    losses = {
        name: set_loss(log_probs, units, neg_loss if name == "neg" else retain_loss, counts[name])
        for name, units in sets.items()
    }
    if "neg" in sets:
        watched = jax.lax.stop_gradient(log_probs)
        losses["neg_ft"] = set_loss(watched, sets["neg"], retain_loss, counts["neg"])
    return losses


def token_weights(units: Units, count: jax.Array) -> jax.Array:
    r"""What each token of the rows weighs in a token-mean loss: :math:`\sum_u w_u m_{ut} / (n_u\, count)`.

    `-jnp.sum(token_weights(units, count) * log_probs)` is `set_loss` with `token_mean_nll`, from [B, T]
    numbers that the data side can make beforehand; objectives that are not linear in the log-probabilities
    need the units.

    Args:
      units: of a set.
      count: float32[], from `count_units`.

    Returns:
      float32[B, T].
    """
    tokens = jnp.sum(units.mask, -1, dtype=jnp.float32)
    share = jnp.where(tokens > 0, units.weight, 0) / (jnp.maximum(tokens, 1) * count)
    return jnp.einsum("bu,but->bt", share, units.mask.astype(jnp.float32))
