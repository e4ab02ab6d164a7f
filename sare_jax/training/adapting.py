"""The training step of adapters: Adam with two learning rates that warm up and fall along a cosine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sare_jax.models.shared import lora
from sare_jax.models.shared.partition import combine, flatten, unflatten
from sare_jax.training.gradients import general
from sare_jax.training.rows import Batch, Rows
from sare_jax.training.state import Params, TrainState
from sare_jax.training.static import Images, Static, Weights
from sare_jax.training.step import Metrics
from sare_jax.training.work import Work

ADAPTERS, MAPPING = "adapters", "mapping"
"""The two groups of parameters: adapters, and the run's own trainable parameters."""


class Rates(NamedTuple):
    """Settings of an adapting step, arguments of its program.

    Attributes:
      adapters: highest learning rate of adapters.
      mapping: highest learning rate of the run's own trainable parameters.
      warmup: steps in which the rates rise from 0.
      steps: all steps; at their end the rates are 0 again.
    """

    adapters: float | jax.Array
    mapping: float | jax.Array
    warmup: float | jax.Array
    steps: float | jax.Array

    def share(self, step: jax.typing.ArrayLike) -> jax.Array:
        """The part of the highest rates after so many finished steps, as transformers' cosine has it.

        The first step of a run that warms up has rate 0.
        """
        step = jnp.asarray(step, jnp.float32)
        rest = (step - self.warmup) / jnp.maximum(self.steps - self.warmup, 1)
        falling = jnp.maximum(0.5 * (1 + jnp.cos(jnp.pi * rest)), 0)
        return jnp.where(step < self.warmup, step / jnp.maximum(self.warmup, 1), falling)


@dataclass(frozen=True)
class Dropping:
    """`general.gradients` of adapters that drop a share of their inputs; also a part of `Static`.

    Attributes:
      keep: share of the inputs that is kept.
    """

    keep: float

    def __call__(
        self,
        static: Static,
        params: Params,
        frozen: Params,
        groups: Mapping[str, Rows],
        features: Mapping[str, Images],
        counts: Mapping[str, jax.Array],
        wanted: Sequence[Weights],
    ) -> tuple[list[Params], dict[str, jax.Array]]:
        """See `sare_jax.training.gradients`; the one group's rows have keys."""
        (images,) = features.values()
        assert images.keys is not None
        masks = lora.dropping(lora.split(params)[1], images.keys, self.keep)
        return general.gradients(static, params, combine(frozen, masks), groups, features, counts, wanted)


def optimizer(rates: Rates) -> optax.GradientTransformationExtraArgs:
    """Adam for each of the two groups at its own rate; no decay, no clipping, as in LLaVA's recipe."""
    groups = {
        ADAPTERS: optax.adam(lambda step: rates.adapters * rates.share(step)),
        MAPPING: optax.adam(lambda step: rates.mapping * rates.share(step)),
    }
    return optax.multi_transform(groups, _groups)


def adapt_step(
    state: TrainState, frozen: Params, batch: Batch, hyper: Rates, static: Static
) -> tuple[TrainState, Metrics]:
    """One step on the mean loss of a batch's target tokens.

    Args:
      state: adapters, and the run's own parameters where they are trained, and the state of
        `optimizer(hyper)` after the steps before.
      frozen: all other weights, and the adapters' scales.
      batch: a batch of `data.conversations.batches`, with `features` in the place of image names.
      hyper: rates and their schedule.
      static: `gradients` is `general.gradients` or a `Dropping`.

    Returns:
      The next state, and float32[] metrics: `loss` before the step, in nats a token; `grad_norm`,
      `update_norm`; `rate_adapters` and `rate_mapping`, the learning rates of this step.
    """
    key = jax.random.fold_in(state.rng, state.step)
    (grads,), losses = Work(static, frozen, {"neg": batch}, key).at(state.params, [{"neg": 1.0}])
    updates, opt_state = optimizer(hyper).update(grads, state.opt_state, state.params)
    share = hyper.share(state.step)
    metrics = {
        "loss": losses["neg"],
        "grad_norm": optax.tree.norm(grads),
        "update_norm": optax.tree.norm(updates),
        "rate_adapters": hyper.adapters * share,
        "rate_mapping": hyper.mapping * share,
    }
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state, state.rng), metrics


def _groups(params: Params) -> Params:
    paths = flatten(params)
    return unflatten({path: ADAPTERS if lora.is_adapter(path) else MAPPING for path in paths})
