"""The pure training steps: unlearning with Targeted-SAM, and plain fine-tuning.

Data flow of the unlearning step, for a batch of B negatives, B positives and B sentences:

    pass 1   neg at θ′ = θ, pos and sent at θ     one forward, one backward; θ′ is an argument of its own, so
             → ∇L_neg(θ), ∇(L_pos + λ₂ L_sent)(θ)  that the two gradients come out apart
    ε*       from ∇L_neg(θ)                       inside `targeted_sam`
    pass 2   neg at θ + ε*                        → ∇L_neg(θ + ε*)

which equals the four calls of the equations exactly. The three sub-batches are an axis of their own under
`jax.vmap`, each with its copy of θ: frozen weights are shared and see all rows in one product, and the batch
axis keeps its sharding, which a concatenation of sub-batches would break up.

Every L_k is the mean over the units of the global batch, whatever the devices and micro-batches.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim.objectives import UnitLoss, token_mean_nll
from sare_jax.training.state import (
    FinetuneHyper,
    Hyper,
    Params,
    TrainState,
    finetune_optimizer,
    unlearn_optimizer,
)

# (trainable, frozen) → a model with `hidden(tokens, features, remat_policy)` and `logits(hidden)`.
Merge = Callable[[Params, Params], Any]
RematPolicy = Callable[..., bool]
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]

SETS = ("neg", "pos", "sent")


def unlearn_step(
    state: TrainState,
    frozen: Params,
    batch: dict[str, Batch],
    hyper: Hyper,
    *,
    merge: Merge,
    neg_loss: UnitLoss,
    micro_batches: int = 1,
    remat_policy: RematPolicy | None = None,
) -> tuple[TrainState, Metrics]:
    """One step of Eq. 8 and AdamW.

    Args:
      state: of the run.
      frozen: weights that do not change.
      batch: {"neg", "pos", "sent"}, each a dict of tokens int32[B, T]; targets int32[B, W]; start, end
        int32[B]; valid float32[B]; features float[B, P, D_v]. Rows with `valid` 0 count nowhere; a set
        without valid rows has loss and gradient 0.
      hyper: ρ, λ₁, λ₂ and AdamW's.
      merge: makes the model from trainable and frozen weights.
      neg_loss: erasing objective of a unit (`sare_jax.optim.objectives`).
      micro_batches: parts in which gradients are accumulated; divides B.
      remat_policy: passed to the model.

    Returns:
      The next state, and float32[] metrics at θ before the step: `neg`, `pos`, `sent` (L_k),
      `neg_perturbed` (L_neg at θ + ε*), `neg_grad_norm`, `eps_norm`, `cosine` (see `TargetedSamState`), and
      `update_norm`, which is not finite if anything was not.
    """
    terms = _Terms(
        frozen, merge, remat_policy, {kind: _count(batch[kind]) for kind in SETS}, neg_loss, hyper.sent_weight
    )
    parts = _split(batch, micro_batches)
    nothing, no_grads = jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params)
    clean_pass = functools.partial(
        jax.grad(terms.clean, argnums=(0, 1), has_aux=True), state.params, state.params
    )
    (neg_grads, retain_grads), metrics = _sum_over_parts(
        clean_pass, parts, ((no_grads, no_grads), dict.fromkeys(SETS, nothing))
    )

    def neg_grad_fn(params: Params) -> Params:
        # The transform calls this once, in this very trace, so the loss may be noted on the side.
        neg_pass = functools.partial(jax.value_and_grad(terms.neg), params)
        metrics["neg_perturbed"], grads = _sum_over_parts(neg_pass, parts, (nothing, no_grads))
        return grads

    updates, opt_state = unlearn_optimizer(hyper).update(
        retain_grads, state.opt_state, state.params, neg_grad_fn=neg_grad_fn, neg_grads=neg_grads
    )
    metrics |= opt_state[0]._asdict() | {"update_norm": optax.tree.norm(updates)}
    return _advance(state, updates, opt_state), metrics


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
      batch: one set as in `unlearn_step`.
      hyper: AdamW's settings.
      merge: makes the model from trainable and frozen weights.
      remat_policy: passed to the model.

    Returns:
      The next state, and float32[] metrics `loss` (at θ before the step), `grad_norm` and `update_norm`.
    """

    def loss_at(params: Params) -> jax.Array:
        model = merge(params, frozen)
        hidden = model.hidden(batch["tokens"], batch["features"], remat_policy)
        return _mean_loss(model, hidden, batch, token_mean_nll, _count(batch))

    loss, grads = jax.value_and_grad(loss_at)(state.params)
    updates, opt_state = finetune_optimizer(hyper).update(grads, state.opt_state, state.params)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
    return _advance(state, updates, opt_state), metrics


def target_log_probs(model: Any, hidden: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of a batch's target tokens; the head runs on their positions alone.

    Args:
      model: has `logits`.
      hidden: float[B, T, D].
      batch: targets int32[B, W]; start, end int32[B].

    Returns:
      float32[B, W] log-probabilities, and bool[B, W], where there is a target.
    """
    offsets = jnp.arange(batch["targets"].shape[1])
    # The state before a token predicts it. Clipped places are masked.
    places = jnp.minimum(batch["start"][:, None] - 1 + offsets, hidden.shape[1] - 1)
    logits = model.logits(jnp.take_along_axis(hidden, places[..., None], axis=1)).astype(jnp.float32)
    log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][..., None], axis=-1)[..., 0]
    return log_probs, offsets < (batch["end"] - batch["start"])[:, None]


@dataclass(frozen=True)
class _Terms:
    """The losses of an unlearning step as functions of parameters and a part of the batch."""

    frozen: Params
    merge: Merge
    remat_policy: RematPolicy | None
    counts: dict[str, jax.Array]
    neg_loss: UnitLoss
    sent_weight: float | jax.Array

    def clean(self, neg_params: Params, params: Params, part: dict[str, Batch]) -> tuple[jax.Array, Metrics]:
        """L_neg(θ′) + L_pos(θ) + λ₂ L_sent(θ), and the three losses: pass 1."""
        owners = {"neg": neg_params, "pos": params, "sent": params}
        copies = jax.tree.map(lambda *leaves: jnp.stack(leaves), *owners.values())
        stacked = {key: jnp.stack([part[kind][key] for kind in SETS]) for key in ("tokens", "features")}
        hidden = jax.vmap(self._hidden)(copies, stacked)
        losses = {
            kind: self._loss(owners[kind], hidden[place], kind, part[kind]) for place, kind in enumerate(SETS)
        }
        return losses["neg"] + losses["pos"] + self.sent_weight * losses["sent"], losses

    def neg(self, params: Params, part: dict[str, Batch]) -> jax.Array:
        """L_neg: pass 2."""
        return self._loss(params, self._hidden(params, part["neg"]), "neg", part["neg"])

    def _hidden(self, params: Params, batch: Batch) -> jax.Array:
        return self.merge(params, self.frozen).hidden(batch["tokens"], batch["features"], self.remat_policy)

    def _loss(self, params: Params, hidden: jax.Array, kind: str, part: Batch) -> jax.Array:
        unit_loss = self.neg_loss if kind == "neg" else token_mean_nll
        return _mean_loss(self.merge(params, self.frozen), hidden, part, unit_loss, self.counts[kind])


def _mean_loss(
    model: Any, hidden: jax.Array, part: Batch, unit_loss: UnitLoss, count: jax.Array
) -> jax.Array:
    """This part's share of the mean over all `count` units."""
    losses = unit_loss(*target_log_probs(model, hidden, part))
    return jnp.sum(jnp.where(part["valid"] > 0, losses, 0)) / count


def _count(batch: Batch) -> jax.Array:
    """Units of the global batch; at least 1, so that an empty set has loss 0."""
    return jnp.maximum(jnp.sum(batch["valid"]), 1)


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
