"""Losses of rows under a model: L_neg, L_pos and L_sent from one run of each row."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sare_jax.objectives.needs import AtHand, Outputs, layer_of
from sare_jax.training.rows import Batch, Rows, as_rows, log_probs_of, mean_over_units
from sare_jax.training.static import RematPolicy, Static


def losses_of_rows(
    static: Static,
    model: Any,
    rows: Rows,
    image_embeds: jax.Array,
    counts: Mapping[str, jax.Array],
    prefix: tuple[int, ...] = (),
) -> dict[str, jax.Array]:
    """The rows' share of L_k by set, float32[].

    Args:
      static: the objective, `padded_length` and the remat policy.
      model: a `Model` with its weights.
      rows: tokens, targets and units; the whole batch or a part of it.
      image_embeds: float[B, P, E], image embeddings of each row's image.
      counts: set → float32[], units of the whole batch over all devices and micro-batches; the divisor of
        L_k.
      prefix: tokens that all rows begin with, to be run once, without a gradient.
    """
    logits = _target_logits(model, rows, image_embeds, prefix, static.remat_policy)
    layer = layer_of(static.objective.needs)
    activations = None
    if layer is not None:
        # An objective of activations alone leaves the layers above unused, and the compiler drops them.
        activations = _hidden(model, rows, image_embeds, prefix, static.remat_policy, layer)
        activations = activations.astype(jnp.float32)
    log_probs = log_probs_of(logits, rows.targets)[:, None]
    preferred = None
    if rows.preferred is not None:
        # Behind the same embeddings: the image is projected once, whatever is read behind it.
        others = rows.preferred
        other_logits = _target_logits(model, others, image_embeds, prefix, static.remat_policy)
        preferred = log_probs_of(other_logits, others.targets)[:, None], others.units["preferred"].mask
    objective, losses = static.objective, {}
    for kind, units in rows.units.items():
        at_hand = AtHand(
            logits,
            log_probs,
            units.by_unit,
            rows.by_token,
            static.padded_length,
            static.lexicon,
            preferred,
            activations,
        )
        extra = {need.keyword: need.value(at_hand) for need in objective.needs if kind in need.sets}
        loss = objective.erase if kind == "neg" else objective.retain
        losses[kind] = mean_over_units(loss(log_probs, units.mask, **extra), units, counts[kind])
    return losses


def target_log_probs(
    model: Any, batch: Batch, remat_policy: RematPolicy | None = None
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of the targets of rows with one unit; the head runs on their positions alone.

    Args:
      model: a `Model` with its weights.
      batch: tokens int32[B, T]; targets int32[B, W]; start, end int32[B]; features float[B, P, D_v].
      remat_policy: what a layer keeps for its backward pass; None keeps all.

    Returns:
      float32[B, W] log-probabilities, and bool[B, W], where there is a target.
    """
    log_probs, mask, _ = target_outputs(model, batch, remat_policy)
    return log_probs, mask


def target_outputs(
    model: Any, batch: Batch, remat_policy: RematPolicy | None = None, layer: int | None = None
) -> tuple[jax.Array, jax.Array, Outputs]:
    """As `target_log_probs`, and the logits, with a layer's activations where one is named."""
    rows = as_rows("unit", {key: value for key, value in batch.items() if key != "valid"})
    embeds = model.project(batch["features"])
    logits = _target_logits(model, rows, embeds, (), remat_policy)
    activations = None
    if layer is not None:
        activations = _hidden(model, rows, embeds, (), remat_policy, layer).astype(jnp.float32)
    outputs = Outputs(logits, activations)
    return log_probs_of(logits, rows.targets), rows.units["unit"].mask[:, 0], outputs


def _target_logits(
    model: Any,
    rows: Rows,
    image_embeds: jax.Array,
    prefix: tuple[int, ...],
    remat_policy: RematPolicy | None,
) -> jax.Array:
    """float32[B, W, V], the logits that predict each target of the rows."""
    return model.logits(_hidden(model, rows, image_embeds, prefix, remat_policy))


def _hidden(
    model: Any,
    rows: Rows,
    image_embeds: jax.Array,
    prefix: tuple[int, ...],
    remat_policy: RematPolicy | None,
    depth: int | None = None,
) -> jax.Array:
    """float[B, W, D], the hidden states behind `depth` layers where each target of the rows is predicted."""
    ahead = len(prefix)
    return model.read(
        rows.tokens[:, ahead:],
        image_embeds,
        positions=jnp.maximum(rows.positions - ahead, 0),
        prefix=prefix,
        remat_policy=remat_policy,
        depth=depth,
    )
