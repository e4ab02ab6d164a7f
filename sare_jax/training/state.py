"""What a training run carries from step to step, and the numbers that steer it."""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sare_jax.optim import AdamW, Perturbation, adamw, skip_nonfinite, targeted_sam

# Nested dictionaries of arrays.
Params = Any
Settings = TypeVar("Settings")


class Hyper(NamedTuple):
    """Settings of an unlearning step. They enter the compiled step as arguments: other values, same program.

    Attributes:
      rho: ρ, radius of the perturbation.
      neg_weight: λ₁.
      sent_weight: λ₂.
      adamw: AdamW's settings; its rates are arguments of the program, its other fields part of the program.
      pos_weight: weight of L_pos.
    """

    rho: float | jax.Array
    neg_weight: float | jax.Array
    sent_weight: float | jax.Array
    adamw: AdamW
    pos_weight: float | jax.Array = 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that a training step changes; the frozen weights are passed beside it.

    Attributes:
      step: int32[], finished optimizer steps.
      params: the trainable parameters θ, float32.
      opt_state: state of the optimizer (`unlearn_optimizer`, `efuf_optimizer` or `adamw`).
      rng: typed PRNG key of the run, for modules that draw (dropout); LLaVA's do not.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    rng: jax.Array


def unlearn_optimizer(
    hyper: Hyper,
    perturbation: Perturbation = Perturbation(),
) -> optax.GradientTransformationExtraArgs:
    """Targeted-SAM, then AdamW; non-finite steps are skipped."""
    sam = targeted_sam(hyper.rho, hyper.neg_weight, perturbation=perturbation)
    return skip_nonfinite(optax.chain(sam, adamw(hyper.adamw)))


def efuf_optimizer(hyper: Hyper) -> optax.GradientTransformationExtraArgs:
    """AdamW alone, for the gradient of Eq. 1; non-finite steps are skipped."""
    return skip_nonfinite(adamw(hyper.adamw))


def init_state(params: Params, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """A run's first state. Copies `params`, since steps donate their state.

    Args:
      params: trainable parameters, float32.
      optimizer: its `init` makes the state's `opt_state`; its settings do not matter here.
      seed: makes the PRNG key that the state holds.
    """
    params = jax.tree.map(lambda x: jnp.array(x, copy=True), params)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.random.key(seed))


def as_arrays(hyper: Settings) -> Settings:
    """`Hyper` or `AdamW` with float32 arrays, so that Python numbers and arrays call the same program."""
    return jax.tree.map(lambda value: np.asarray(value, np.float32), hyper)
