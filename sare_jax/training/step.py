"""The pure training steps: EFUF, SARE by Targeted-SAM, and plain fine-tuning.

Data flow of the SARE step, whose batch holds groups of rows (`sare_jax.training.passes`):

    pass 1   all rows at θ          one forward; one backward for each gradient that a row has a part in
             → ∇L_neg(θ), ∇(L_pos + λ₂ L_sent)(θ)
    ε*       from ∇L_neg(θ)         inside `targeted_sam`
    pass 2   negatives at θ + ε*    → ∇L_neg(θ + ε*)

which equals the four calls of the equations exactly. Rows of one unit (the paper's independent draws) come in
three groups, one a set, and each is pulled back once. Packed rows come in two, with negatives and without;
the first is pulled back twice, and pass 2 ends behind its last negative. Where `Perturbation.refresh_every`
leaves pass 2 out, `Perturbation.between` as `kept` pulls them back once. The EFUF step is pass 1 with the one
gradient of Eq. 1.

Groups are run one after the other: rows keep their own group's length and their devices, and one group's
activations are held at a time.

Every L_k is the mean over the units of the global batch, whatever the devices and micro-batches.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim import Perturbation, logged, refresh_is_due
from sare_jax.optim.objectives import token_mean_nll
from sare_jax.training import passes
from sare_jax.training.passes import SETS, Batch, Loss, Losses, Merge, RematPolicy, Rows
from sare_jax.training.state import (
    FinetuneHyper,
    Hyper,
    Params,
    TrainState,
    efuf_optimizer,
    finetune_optimizer,
    unlearn_optimizer,
)

Metrics = dict[str, jax.Array]
# Settings and int32[] finished steps → settings of this step.
Schedule = Callable[[Hyper, jax.Array], Hyper]


def unlearn_step(
    state: TrainState,
    frozen: Params,
    batch: dict[str, Batch],
    hyper: Hyper,
    *,
    merge: Merge,
    neg_loss: Loss,
    retain_loss: Loss = token_mean_nll,
    prefix: tuple[int, ...] = (),
    perturbation: Perturbation = Perturbation(),  # noqa: B008, immutable
    schedule: Schedule | None = None,
    micro_batches: int = 1,
    remat_policy: RematPolicy | None = None,
) -> tuple[TrainState, Metrics]:
    """One step of Eq. 8 and AdamW.

    Args:
      state: of the run, with the optimizer of `unlearn_optimizer` for this perturbation.
      frozen: weights that do not change.
      batch: of `unlearn_batches` or `packed_batches`, with `features` float[B, P, D_v] in the place of image
        names. Padded rows and units count nowhere; a set without units has loss and gradient 0.
      hyper: ρ, λ₁, λ₂ and AdamW's.
      merge: makes the model from trainable and frozen weights; see `passes.Merge`.
      neg_loss: erasing objective of a unit (`sare_jax.optim.objectives`); with `reference` in the batch it is
        called with that as a third argument.
      retain_loss: loss of a positive or a sentence.
      prefix: tokens that all rows begin with, before their image.
      perturbation: how ε* is found.
      schedule: changes the settings from step to step; None leaves them.
      micro_batches: parts in which gradients are accumulated; divides the rows of each group.
      remat_policy: passed to the model.

    Returns:
      The next state, and float32[] metrics at θ before the step: `neg`, `pos`, `sent` (L_k),
      `neg_perturbed` (L_neg at θ + ε*; left out where ε* is not found in every step), those of
      `sare_jax.optim.logged`, and `update_norm`. A step in which something is not finite leaves parameters
      and optimizer as they were and counts in `skipped`; its own metrics may be not finite.
    """
    hyper = schedule(hyper, state.step) if schedule else hyper
    losses = Losses(merge, neg_loss, retain_loss, prefix, remat_policy)
    work = _Work(losses, frozen, batch, micro_batches)
    retain = {"pos": hyper.pos_weight, "sent": hyper.sent_weight}

    def apart() -> tuple[list[Params], Metrics]:
        return work.at(state.params, [{"neg": 1.0}, retain])

    def together() -> tuple[list[Params], Metrics]:
        (grads,), found = work.at(state.params, [retain | {"neg": hyper.neg_weight}])
        return [jax.tree.map(jnp.zeros_like, grads), grads], found

    # Between two ε* that are kept, rows with both kinds of units need one backward pass alone.
    if "second" in batch and perturbation.refresh_every > 1 and perturbation.between == "kept":
        due = refresh_is_due(state.opt_state)
        (neg_grads, retain_grads), metrics = jax.lax.cond(due, apart, together)
    else:
        (neg_grads, retain_grads), metrics = apart()

    def neg_grad_fn(params: Params) -> Params:
        (grads,), found = work.again(params)
        # Where ε* is found in every step all calls are in this very trace, and the last is at θ + ε*.
        if perturbation.refresh_every == 1:
            metrics["neg_perturbed"] = found["neg"]
        return grads

    updates, opt_state = unlearn_optimizer(hyper, perturbation).update(
        retain_grads, state.opt_state, state.params, neg_grad_fn=neg_grad_fn, neg_grads=neg_grads
    )
    metrics |= logged(opt_state) | {"update_norm": optax.tree.norm(updates)}
    return _advance(state, updates, opt_state), metrics


def efuf_step(
    state: TrainState,
    frozen: Params,
    batch: dict[str, Batch],
    hyper: Hyper,
    *,
    merge: Merge,
    neg_loss: Loss,
    retain_loss: Loss = token_mean_nll,
    prefix: tuple[int, ...] = (),
    schedule: Schedule | None = None,
    micro_batches: int = 1,
    remat_policy: RematPolicy | None = None,
) -> tuple[TrainState, Metrics]:
    """One step of Eq. 1, L_pos + λ₁ L_neg + λ₂ L_sent, and AdamW: what `unlearn_step` is with ρ = 0.

    Args:
      state: of the run, with the optimizer of `efuf_optimizer`.
      frozen: weights that do not change.
      batch: as in `unlearn_step`; of packed batches `second` is not used.
      hyper: λ₁, λ₂ and AdamW's; ρ is not used.
      merge: as in `unlearn_step`, and so are the others.
      neg_loss: erasing objective.
      retain_loss: loss of a positive or a sentence.
      prefix: tokens that all rows begin with.
      schedule: changes the settings from step to step.
      micro_batches: parts in which gradients are accumulated.
      remat_policy: passed to the model.

    Returns:
      The next state, and float32[] metrics `neg`, `pos`, `sent`, `grad_norm`, `skipped`, `skipped_in_a_row`
      and `update_norm`.
    """
    hyper = schedule(hyper, state.step) if schedule else hyper
    losses = Losses(merge, neg_loss, retain_loss, prefix, remat_policy)
    weights = {"neg": hyper.neg_weight, "pos": hyper.pos_weight, "sent": hyper.sent_weight}
    (grads,), metrics = _Work(losses, frozen, batch, micro_batches).at(state.params, [weights])
    updates, opt_state = efuf_optimizer(hyper).update(grads, state.opt_state, state.params)
    norms = {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
    return _advance(state, updates, opt_state), metrics | logged(opt_state) | norms


def finetune_step(
    state: TrainState,
    frozen: Params,
    batch: Batch,
    hyper: FinetuneHyper,
    *,
    merge: Merge,
    remat_policy: RematPolicy | None = None,
) -> tuple[TrainState, Metrics]:
    """One step of AdamW on the plain L_ft of a batch, as a relearning attack takes it.

    Args:
      state: of the run.
      frozen: weights that do not change.
      batch: of `finetune_batches`, with `features`.
      hyper: AdamW's settings.
      merge: makes the model from trainable and frozen weights.
      remat_policy: passed to the model.

    Returns:
      The next state, and float32[] metrics `loss` (at θ before the step), `grad_norm` and `update_norm`.
    """
    count = jnp.maximum(jnp.sum(batch["valid"]), 1)

    def loss_at(params: Params) -> jax.Array:
        losses = token_mean_nll(*target_log_probs(merge(params, frozen), batch, remat_policy))
        return jnp.sum(jnp.where(batch["valid"] > 0, losses, 0)) / count

    loss, grads = jax.value_and_grad(loss_at)(state.params)
    updates, opt_state = finetune_optimizer(hyper).update(grads, state.opt_state, state.params)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
    return _advance(state, updates, opt_state), metrics


def target_log_probs(
    model: Any, batch: Batch, remat_policy: RematPolicy | None = None
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of the targets of rows with one unit; the head runs on their places alone.

    Args:
      model: see `passes.Merge`.
      batch: tokens int32[B, T]; targets int32[B, W]; start, end int32[B]; features float[B, P, D_v].
      remat_policy: passed to the model.

    Returns:
      float32[B, W] log-probabilities, and bool[B, W], where there is a target.
    """
    seen = model.project(batch["features"])
    places = passes.places_of(batch)
    hidden = model.read(batch["tokens"], seen, positions=places, remat_policy=remat_policy)
    offsets = jnp.arange(places.shape[1])
    return (
        passes.log_probs_of(model.logits(hidden), batch["targets"]),
        offsets < (batch["end"] - batch["start"])[:, None],
    )


class _Work:
    """A batch, cut into micro-batches, and the gradients of its losses at given parameters."""

    def __init__(self, losses: Losses, frozen: Params, batch: dict[str, Batch], micro_batches: int):
        self._losses, self._frozen = losses, frozen
        groups, features = _groups(batch)
        self._counts = passes.count_units(groups)
        self._parts = _split((groups, features), micro_batches)
        negatives = passes.as_rows("neg", batch["second"]) if "second" in batch else groups["neg"]
        alone = {"neg": negatives._replace(units={"neg": negatives.units["neg"]})}
        self._negatives = _split((alone, {"neg": features["neg"]}), micro_batches)

    def at(self, params: Params, wanted: list[Mapping[str, Any]]) -> tuple[list[Params], Metrics]:
        """Gradients of the wanted sums of losses, and the losses, over all rows."""
        return self._sum(self._parts, params, wanted)

    def again(self, params: Params) -> tuple[list[Params], Metrics]:
        """∇L_neg and L_neg, over the negatives alone."""
        return self._sum(self._negatives, params, [{"neg": 1.0}])

    def _sum(self, parts: Any, params: Params, wanted: list[Mapping[str, Any]]) -> tuple:
        def evaluate(part: tuple[dict[str, Rows], dict[str, jax.Array]]) -> tuple:
            return passes.gradients(self._losses, params, self._frozen, *part, self._counts, wanted)

        no_grads = jax.tree.map(jnp.zeros_like, params)
        return _sum_over_parts(
            evaluate, parts, ([no_grads] * len(wanted), dict.fromkeys(SETS, jnp.zeros(())))
        )


def _groups(batch: dict[str, Batch]) -> tuple[dict[str, Rows], dict[str, jax.Array]]:
    """Rows and features of the groups that are run at θ."""
    names = [name for name in batch if name != "second"]
    rows = {name: passes.as_rows(name, batch[name]) for name in names}
    return rows, {name: batch[name]["features"] for name in names}


def _split(batch: Any, micro_batches: int) -> Any:
    """[B, …] → [M, B/M, …], by striding, so that each device's rows spread over all parts and none moves."""
    return jax.tree.map(lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), batch)


def _sum_over_parts(evaluate: Callable[[Any], Any], parts: Any, zero: Any) -> Any:
    """Σ evaluate(part) over the leading axis of `parts`, holding one part's activations at a time."""

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, evaluate(part)), None

    return jax.lax.scan(add, zero, parts)[0]


def _advance(state: TrainState, updates: Params, opt_state: optax.OptState) -> TrainState:
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state, state.rng)
