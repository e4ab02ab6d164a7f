"""Rows of tokens with the units whose targets are in them, whichever form a batch has.

Packed, a row is one caption behind its image and holds several units, runs of its tokens. The row is run
once, and every loss is a sum over its tokens. Where units overlap, their weights add:

    tokens      a   man   with   a   red   hat
    unit 1          ½     ½                       weight 1, 2 tokens
    unit 2                ⅓      ⅓   ⅓            weight 1, 3 tokens
    row             ½     ⅚      ⅓   ⅓

Unpacked, a row holds one unit.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sare_jax.data.batches import SETS

Batch = dict[str, Any]


class Units(NamedTuple):
    """The units of one set in a batch of rows; one without tokens is padding and counts nowhere.

    Attributes:
      mask: bool[B, U, W], the target tokens of each unit.
      by_unit: name → float32[B, U]; `weight` is that of its loss, 1 where it is not there.
    """

    mask: jax.Array
    by_unit: dict[str, jax.Array]


class Rows(NamedTuple):
    """Rows of tokens and their units.

    Attributes:
      tokens: int32[B, T], prompt with image slots and caption, right-padded.
      positions: int32[B, W], target positions: that of the token before each target.
      targets: int32[B, W], the tokens to be predicted there.
      units: set → its units in these rows.
      by_token: name → [B, W, …], an array for each target that the objective needs.
      preferred: rows with another continuation of each row's context, behind the same image; None where the
        objective needs none.
    """

    tokens: jax.Array
    positions: jax.Array
    targets: jax.Array
    units: dict[str, Units]
    by_token: dict[str, jax.Array]
    preferred: "Rows | None" = None


def as_rows(name: str, part: Batch) -> Rows:
    """The rows of a group, whichever form its batch has: `unlearn_batches` or `packed_batches`.

    Args:
      name: name of the group; in batches with one unit a row it is the set that the units belong to.
      part: the group's arrays by name, as these functions describe them.
    """
    by_token = part.get("by_token", {})
    if "units" in part:
        window = part["targets"].shape[1]
        units = {kind: _packed(columns, window) for kind, columns in part["units"].items()}
        return Rows(part["tokens"], part["positions"], part["targets"], units, by_token)
    count = part["end"] - part["start"]
    if "valid" in part:
        count = jnp.where(part["valid"] > 0, count, 0)
    mask = jnp.arange(part["targets"].shape[1]) < count[:, None, None]
    by_unit = {key: values[:, None] for key, values in part.get("by_unit", {}).items()}
    preferred = as_rows("preferred", part["preferred"]) if "preferred" in part else None
    positions = target_positions(part)
    units = {name: Units(mask, by_unit)}
    return Rows(part["tokens"], positions, part["targets"], units, by_token, preferred)


def target_positions(part: Batch) -> jax.Array:
    """int32[B, W], of the token before each target in rows with one unit; clipped where there is none."""
    offsets = jnp.arange(part["targets"].shape[1])
    return jnp.minimum(part["start"][:, None] - 1 + offsets, part["tokens"].shape[1] - 1)


def count_units(groups: Mapping[str, Rows]) -> dict[str, jax.Array]:
    """Units of each set in the global batch (all devices, all micro-batches), float32[]."""
    members = {kind: [rows.units[kind] for rows in groups.values() if kind in rows.units] for kind in SETS}
    return {
        kind: sum((jnp.sum(jnp.any(units.mask, -1), dtype=jnp.float32) for units in each), jnp.zeros(()))
        for kind, each in members.items()
    }


def mean_over_units(losses: jax.Array, units: Units, count: jax.Array) -> jax.Array:
    r"""Weighted mean over the units of a set, :math:`\frac{1}{count} \sum_{b,u} w_{bu} \ell_{bu}`.

    Args:
      losses: float32[B, U].
      units: masks and weights of the set's units.
      count: float32[], units of the global batch, from `count_units`. Where the rows are a part of that batch
        the result is the part's share, so that shares add up.

    Returns:
      float32[]; 0 without units. Weights do not change the divisor: L_k is a mean over units, not over
      weights.
    """
    weight = units.by_unit.get("weight", jnp.ones(units.mask.shape[:2], jnp.float32))
    # The product is inside: a padded unit's weight or loss may be anything.
    total = jnp.sum(jnp.where(jnp.any(units.mask, -1), weight * losses, 0))
    return total / jnp.maximum(count, 1)


def log_probs_of(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """float32[B, W] log-probabilities of int32[B, W] tokens under logits[B, W, V].

    The token's logit is picked by comparing, which a compiler fuses with the sums; the gradient of an index
    would be a scatter over the vocabulary.
    """
    logits = logits.astype(jnp.float32)
    chosen = jnp.arange(logits.shape[-1]) == targets[..., None]
    return jnp.sum(jnp.where(chosen, logits, 0), -1) - jax.nn.logsumexp(logits, axis=-1)


def _packed(columns: Batch, window: int) -> Units:
    index = jnp.arange(window)
    mask = (index >= columns["start"][..., None]) & (index < columns["end"][..., None])
    return Units(mask, columns.get("by_unit", {}))
