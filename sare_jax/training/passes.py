"""Losses of rows, and their gradients with respect to the mapping layers, part by part.

The trainable parameters act on image features alone (`model.project`), so a pass has two halves: the frozen
language model is pulled back to the projected features of each group of rows, and the mapping layers are
pulled back from there, once for each gradient that is wanted. Weight gradients of the language model are
never formed, and with rows divided over devices each of the gradients is reduced once.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sare_jax.optim import rows as row_losses
from sare_jax.optim.rows import Units

Params = Any
# (trainable, frozen) → a model with `project(features)`, `read(tokens, seen, …)` and `logits(hidden)`.
Merge = Callable[[Params, Params], Any]
RematPolicy = Callable[..., bool]
Batch = dict[str, Any]
# Log-probabilities and mask → losses; of the negatives also their `reference` where the batch has it.
Loss = Callable[..., jax.Array]

SETS = ("neg", "pos", "sent")


class Rows(NamedTuple):
    """Rows of tokens and the units whose targets are in them.

    Attributes:
      tokens: int32[B, T].
      places: int32[B, W], the place that predicts each target.
      targets: int32[B, W].
      units: set → its units, with masks bool[B, U, W].
      reference: float32[B, U], see `Losses`; None without.
    """

    tokens: jax.Array
    places: jax.Array
    targets: jax.Array
    units: dict[str, Units]
    reference: jax.Array | None


@dataclass(frozen=True)
class Losses:
    """The objectives, and what is done to the language model's layers.

    Attributes:
      merge: makes the model from trainable and frozen weights.
      neg: erasing objective of a unit (`sare_jax.optim.objectives`); is given the negatives' `reference` as a
        third argument where the batch has it.
      retain: loss of a positive or sentence.
      prefix: the tokens that all rows begin with, before their image; they are run once for all rows.
      remat_policy: passed to the model.
    """

    merge: Merge
    neg: Loss
    retain: Loss
    prefix: tuple[int, ...] = ()
    remat_policy: RematPolicy | None = None

    def of_rows(
        self, params: Params, frozen: Params, rows: Rows, seen: jax.Array, counts: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """The rows' share of L_k by set, float32[], given their projected features float[B, P, D]."""
        # What is not projected is frozen, whichever weights `params` has.
        model = self.merge(jax.lax.stop_gradient(params), frozen)
        log_probs = self._log_probs(model, rows, seen)
        return {
            kind: row_losses.set_loss(log_probs, units, self._loss(kind, rows), counts[kind])
            for kind, units in rows.units.items()
        }

    def _loss(self, kind: str, rows: Rows) -> Loss:
        if kind != "neg":
            return self.retain
        if rows.reference is None:
            return self.neg
        return lambda log_probs, mask: self.neg(log_probs, mask, rows.reference)

    def _log_probs(self, model: Any, rows: Rows, seen: jax.Array) -> jax.Array:
        ahead = len(self.prefix)
        hidden = model.read(
            rows.tokens[:, ahead:],
            seen,
            positions=jnp.maximum(rows.places - ahead, 0),
            prefix=self.prefix,
            remat_policy=self.remat_policy,
        )
        return log_probs_of(model.logits(hidden), rows.targets)


def log_probs_of(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """float32[B, W] log-probabilities of int32[B, W] tokens under logits[B, W, V].

    The token's logit is picked by comparing, which a compiler fuses with the sums; the gradient of an index
    would be a scatter over the vocabulary.
    """
    logits = logits.astype(jnp.float32)
    chosen = jnp.arange(logits.shape[-1]) == targets[..., None]
    return jnp.sum(jnp.where(chosen, logits, 0), -1) - jax.nn.logsumexp(logits, axis=-1)


def as_rows(name: str, part: Batch) -> Rows:
    """The rows of a group, whichever form its batch has: `unlearn_batches` or `packed_batches`.

    Args:
      name: of the group; of batches with one unit a row, that of its set.
      part: the group's arrays.
    """
    if "units" in part:
        window = part["targets"].shape[1]
        units = {kind: _units(columns, window) for kind, columns in part["units"].items()}
        reference = part["units"].get("neg", {}).get("reference")
        return Rows(part["tokens"], part["places"], part["targets"], units, reference)
    columns = {key: part[key][:, None] for key in ("weight", "reference") if key in part}
    count = jnp.where(part["valid"] > 0, part["end"] - part["start"], 0)[:, None]
    units = _units(columns | {"start": jnp.zeros_like(count), "end": count}, part["targets"].shape[1])
    return Rows(part["tokens"], places_of(part), part["targets"], {name: units}, columns.get("reference"))


def places_of(part: Batch) -> jax.Array:
    """int32[B, W], the place that predicts each target of rows with one unit; clipped where there is none."""
    offsets = jnp.arange(part["targets"].shape[1])
    return jnp.minimum(part["start"][:, None] - 1 + offsets, part["tokens"].shape[1] - 1)


def _units(columns: Batch, window: int) -> Units:
    mask = row_losses.spans(columns["start"], columns["end"], window)
    return Units(mask, columns.get("weight", jnp.ones(mask.shape[:2], jnp.float32)))


def count_units(groups: Mapping[str, Rows]) -> dict[str, jax.Array]:
    """Units of each set in the global batch, float32[]; at least 1, so that an empty set has loss 0."""
    found = {kind: [rows.units[kind] for rows in groups.values() if kind in rows.units] for kind in SETS}
    sums = {
        kind: sum(jnp.sum(jnp.any(units.mask, -1), dtype=jnp.float32) for units in members)
        for kind, members in found.items()
    }
    return {kind: jnp.maximum(total, 1) for kind, total in sums.items()}


def gradients(
    losses: Losses,
    params: Params,
    frozen: Params,
    groups: Mapping[str, Rows],
    features: Mapping[str, jax.Array],
    counts: Mapping[str, jax.Array],
    wanted: Sequence[Mapping[str, jax.typing.ArrayLike]],
) -> tuple[list[Params], dict[str, jax.Array]]:
    """Gradients of several weighted sums of L_neg, L_pos and L_sent, from one forward pass.

    A group of rows is pulled back once for each sum that it has a part in: all at a time, so that what the
    backward pass computes again is computed once.

    Args:
      losses: the objectives.
      params: trainable parameters θ.
      frozen: the others.
      groups: name → rows.
      features: name → float[B, P, D_v], vision features of the rows.
      counts: from `count_units`, of the global batch; of a part of it, the shares add up.
      wanted: set → weight of each sum.

    Returns:
      The gradient of each sum, and the losses by set, float32[].
    """
    members = [[name for name, rows in groups.items() if set(rows.units) & set(sums)] for sums in wanted]
    seen, pulls = {}, []
    for names in members:
        chosen = {name: features[name] for name in names}
        project = functools.partial(_project, losses.merge, frozen, features=chosen)
        projected, pull = jax.vjp(project, params)
        seen |= projected
        pulls.append(pull)

    cotangents: list[dict[str, jax.Array]] = [{} for _ in wanted]
    values = dict.fromkeys(SETS, jnp.zeros(()))
    for name, image in seen.items():
        places = [place for place, names in enumerate(members) if name in names]

        def sums_of(image: jax.Array, name: str = name, places: Sequence[int] = places) -> tuple:
            found = losses.of_rows(params, frozen, groups[name], image, counts)
            return tuple(_weighted(found, wanted[place]) for place in places), found

        parts = _pull_each(sums_of, image)
        for place, cotangent in zip(places, parts[0], strict=True):
            cotangents[place][name] = cotangent
        values |= {kind: values[kind] + loss for kind, loss in parts[1].items()}
    grads = [pull(given)[0] for pull, given in zip(pulls, cotangents, strict=True)]
    return grads, values


def _weighted(losses: Mapping[str, jax.Array], weights: Mapping[str, jax.typing.ArrayLike]) -> jax.Array:
    return sum(weights[kind] * loss for kind, loss in losses.items() if kind in weights)


def _pull_each(function: Callable[[jax.Array], tuple], at: jax.Array) -> tuple[Sequence[jax.Array], Any]:
    """The gradient of each of a function's scalar results, and its auxiliary result."""
    results, pull, aux = jax.vjp(function, at, has_aux=True)
    if len(results) == 1:
        return pull((jnp.ones(()),)), aux
    # One row of the unit matrix for each result, its numbers handed out to the results.
    return jax.vmap(lambda row: pull(tuple(row))[0])(jnp.eye(len(results))), aux


def _project(
    merge: Merge, frozen: Params, params: Params, *, features: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Projects the features of several groups as one array, so that θ has one gradient to be reduced.

    The groups are laid side by side within the parts of the row axis that devices hold, so that no row moves.
    """
    if not features:
        return {}
    model = merge(params, frozen)
    parts = math.gcd(*(x.shape[0] for x in features.values()))
    split = [x.reshape(parts, -1, *x.shape[1:]) for x in features.values()]
    edges = np.cumsum([x.shape[1] for x in split])[:-1]
    joined = model.project(jnp.concatenate(split, axis=1))
    pieces = jnp.split(joined, edges, axis=1)
    return {name: piece.reshape(-1, *piece.shape[2:]) for name, piece in zip(features, pieces, strict=True)}
