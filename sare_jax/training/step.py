"""The pure training steps: EFUF, SARE by Targeted-SAM, and plain fine-tuning.

All are called as `step(state, frozen, batch, hyper, static)`: what training changes, the weights that it does
not change, the rows, the numbers among the settings, and everything that is no array. Data flow of the SARE
step, whose batch holds groups of rows (`sare_jax.training.rows`):

    pass 1   all rows at θ          one forward; one backward for each gradient that a row contributes to
             → ∇L_neg(θ), ∇(L_pos + λ₂ L_sent)(θ)
    ε*       from ∇L_neg(θ)         inside `targeted_sam`
    pass 2   negatives at θ + ε*    → ∇L_neg(θ + ε*)

which equals the four calls of the equations exactly. Rows of one unit (the paper's independent draws) come in
three groups, one a set, and each has one backward pass. Packed rows come in two groups, with negatives and
without; the first has two backward passes, and pass 2 ends behind its last negative. In a step that finds no
ε*, pass 1 may compute the sum of both gradients as one (`sare_jax.optim.first_pass`). If the batch holds
other negatives, ε* is found on those. The EFUF step is pass 1 with the one gradient of Eq. 1.

Groups are run one after the other: rows keep their own group's length and their devices, and one group's
activations are held at a time.

Every L_k is the mean over the units of the global batch, whatever the devices and micro-batches.
"""

import jax
import jax.numpy as jnp
import optax

from sare_jax.objectives import Objective
from sare_jax.objectives.likelihood import token_mean_nll
from sare_jax.optim import AdamW, adamw, first_pass, logged
from sare_jax.training.rows import Batch
from sare_jax.training.state import Hyper, Params, TrainState, efuf_optimizer, unlearn_optimizer
from sare_jax.training.static import Static
from sare_jax.training.work import Work

Metrics = dict[str, jax.Array]

# The loss that fine-tuning minimises on its units.
PLAIN = Objective(erase=token_mean_nll)


def unlearn_step(
    state: TrainState, frozen: Params, batch: dict[str, Batch], hyper: Hyper, static: Static
) -> tuple[TrainState, Metrics]:
    """One step of Eq. 8 and AdamW.

    Args:
      state: θ and the state of `unlearn_optimizer` after the steps before; donated where the step is
        compiled.
      frozen: tree of the weights that are not trained, in the dtype that the model was loaded in.
      batch: a batch of `unlearn_batches` or `packed_batches`, with `features` float[B, P, D_v] in the place
        of image names. Padded rows and units count nowhere; a set without units has loss and gradient 0.
      hyper: ρ, λ₁, λ₂ and AdamW's settings.
      static: objective, perturbation, model, and how gradients are computed.

    Returns:
      The next state, and float32[] metrics at θ before the step: `neg`, `pos`, `sent` (L_k),
      `neg_perturbed` (L_neg at θ + ε*; left out where ε* is not found in every step), those of
      `sare_jax.optim.logged`, and `update_norm`. A step in which something is not finite leaves parameters
      and optimizer as they were and counts in `skipped`; its own metrics may be not finite.
    """
    hyper = static.at(hyper, state.step)
    work = Work(static, frozen, batch, static.key_of(state))
    retain = {"pos": hyper.pos_weight, "sent": hyper.sent_weight}

    def apart() -> tuple[list[Params], Metrics]:
        return work.at(state.params, [{"neg": 1.0}, retain])

    def joint() -> tuple[list[Params], Metrics]:
        (grads,), losses = work.at(state.params, [retain | {"neg": hyper.neg_weight}])
        return [jax.tree.map(jnp.zeros_like, grads), grads], losses

    (neg_grads, retain_grads), metrics = first_pass(
        state.opt_state, static.perturbation, apart=apart, joint=joint
    )

    def neg_grad_fn(params: Params) -> Params:
        grads, loss = work.again(params)
        # All calls are in this very trace then, and the last is at θ + ε*.
        if static.perturbation.in_every_step:
            metrics["neg_perturbed"] = loss
        return grads

    updates, opt_state = unlearn_optimizer(hyper, static.perturbation).update(
        retain_grads,
        state.opt_state,
        state.params,
        neg_grad_fn=neg_grad_fn,
        neg_grads=neg_grads,
        negatives=work.negatives,
        ascent_grad_fn=work.other_negatives if work.has_others else None,
    )
    metrics |= logged(opt_state) | {"update_norm": optax.tree.norm(updates)}
    return _advance(state, updates, opt_state), metrics


def efuf_step(
    state: TrainState, frozen: Params, batch: dict[str, Batch], hyper: Hyper, static: Static
) -> tuple[TrainState, Metrics]:
    """One step of Eq. 1, L_pos + λ₁ L_neg + λ₂ L_sent, and AdamW: what `unlearn_step` is with ρ = 0.

    Args:
      state: θ and the state of `efuf_optimizer` after the steps before.
      frozen: as in `unlearn_step`.
      batch: as in `unlearn_step`; groups that serve only to find ε* are not used.
      hyper: λ₁, λ₂ and AdamW's settings; ρ is not used.
      static: as in `unlearn_step`; its perturbation is not used.

    Returns:
      The next state, and float32[] metrics `neg`, `pos`, `sent`, `grad_norm`, `skipped`, `skipped_in_a_row`
      and `update_norm`.
    """
    hyper = static.at(hyper, state.step)
    weights = {"neg": hyper.neg_weight, "pos": hyper.pos_weight, "sent": hyper.sent_weight}
    (grads,), metrics = Work(static, frozen, batch, static.key_of(state)).at(state.params, [weights])
    updates, opt_state = efuf_optimizer(hyper).update(grads, state.opt_state, state.params)
    norms = {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
    return _advance(state, updates, opt_state), metrics | logged(opt_state) | norms


def finetune_step(
    state: TrainState, frozen: Params, batch: Batch, hyper: AdamW, static: Static
) -> tuple[TrainState, Metrics]:
    """One step of AdamW on the mean loss of a batch's units, as a relearning attack takes it.

    Args:
      state: θ and the state of `adamw(hyper)` after the steps before.
      frozen: as in `unlearn_step`.
      batch: a batch of `finetune_batches`, with `features` float[B, P, D_v] in the place of image names.
      hyper: AdamW's settings.
      static: its `objective.erase` is the loss that is minimised; with `PLAIN` that is the token-mean L_ft.

    Returns:
      The next state, and float32[] metrics `loss` (at θ before the step), `grad_norm` and `update_norm`.
    """
    (grads,), losses = Work(static, frozen, {"neg": batch}).at(state.params, [{"neg": 1.0}])
    updates, opt_state = adamw(hyper).update(grads, state.opt_state, state.params)
    metrics = {
        "loss": losses["neg"],
        "grad_norm": optax.tree.norm(grads),
        "update_norm": optax.tree.norm(updates),
    }
    return _advance(state, updates, opt_state), metrics


def _advance(state: TrainState, updates: Params, opt_state: optax.OptState) -> TrainState:
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state, state.rng)
