"""What a training run carries from step to step, and the numbers that steer it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sare_jax.optim import Perturbation, skip_nonfinite, targeted_sam

Params = Any


class Hyper(NamedTuple):
    """Settings of an unlearning step. They enter the compiled step as arguments: other values, same program.

    Attributes:
      rho: ρ, radius of the perturbation.
      neg_weight: λ₁.
      sent_weight: λ₂.
      learning_rate: of AdamW, constant.
      weight_decay: of AdamW, on every trainable leaf.
      pos_weight: of L_pos.
    """

    rho: float | jax.Array
    neg_weight: float | jax.Array
    sent_weight: float | jax.Array
    learning_rate: float | jax.Array
    weight_decay: float | jax.Array
    pos_weight: float | jax.Array = 1.0


class FinetuneHyper(NamedTuple):
    """Settings of a plain fine-tuning step; see `Hyper`."""

    learning_rate: float | jax.Array
    weight_decay: float | jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything of a run that changes; the frozen weights stand beside it.

    Attributes:
      step: int32[], finished optimizer steps.
      params: the trainable parameters θ, float32.
      opt_state: state of the optimizer chain.
      rng: typed PRNG key of the run, for modules that draw (dropout); LLaVA's do not.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    rng: jax.Array


def unlearn_optimizer(
    hyper: Hyper,
    perturbation: Perturbation = Perturbation(),  # noqa: B008, immutable
) -> optax.GradientTransformationExtraArgs:
    """Targeted-SAM before AdamW with torch's habits: constant rate, decay everywhere, no clipping.

    A step in which something is not finite is left out.
    """
    sam = targeted_sam(hyper.rho, hyper.neg_weight, perturbation=perturbation)
    return skip_nonfinite(optax.chain(sam, _adamw(hyper)))


def efuf_optimizer(hyper: Hyper) -> optax.GradientTransformationExtraArgs:
    """The same AdamW alone, for the gradient of Eq. 1."""
    return skip_nonfinite(_adamw(hyper))


def finetune_optimizer(hyper: FinetuneHyper) -> optax.GradientTransformation:
    """Plain AdamW."""
    return _adamw(hyper)


def _adamw(hyper: Hyper | FinetuneHyper) -> optax.GradientTransformation:
    return optax.adamw(
        hyper.learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=hyper.weight_decay, mask=None
    )


def init_state(params: Params, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """A run's first state. Copies `params`, since steps donate their state.

    Args:
      params: trainable parameters, float32.
      optimizer: whose state is made; its settings do not matter here.
      seed: of the run.
    """
    params = jax.tree.map(lambda x: jnp.array(x, copy=True), params)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.random.key(seed))


def as_arrays(hyper: Hyper | FinetuneHyper) -> Hyper | FinetuneHyper:
    """float32 arrays, so that Python numbers and arrays call the same program."""
    return type(hyper)(*(np.asarray(value, np.float32) for value in hyper))
