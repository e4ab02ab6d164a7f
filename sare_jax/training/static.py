"""The static argument of a compiled step: everything that the step needs and that is no array."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from sare_jax.objectives import Objective
from sare_jax.objectives.needs import NO_LEXICON, Lexicon
from sare_jax.optim import Perturbation
from sare_jax.training.rows import Rows
from sare_jax.training.state import Hyper, Params, TrainState

# (trainable, frozen) → a model with `project(features)`, `read(tokens, image_embeds)`, `logits(hidden)`.
Merge = Callable[[Params, Params], Any]
RematPolicy = Callable[..., bool]
# Settings and int32[] finished steps → settings of this step.
Schedule = Callable[[Hyper, jax.Array], Hyper]
Weights = Mapping[str, jax.typing.ArrayLike]
# See `sare_jax.training.gradients`.
Gradients = Callable[
    [
        "Static",
        Params,
        Params,
        Mapping[str, Rows],
        Mapping[str, "Images"],
        Mapping[str, jax.Array],
        Sequence[Weights],
    ],
    tuple[list[Params], dict[str, jax.Array]],
]


class Images(NamedTuple):
    """What is projected for a group of rows.

    Attributes:
      features: float[B, F, D_v], of each row's image.
      keys: PRNG keys [B], by which a row's attention weights are dropped; None where none are.
    """

    features: jax.Array
    keys: jax.Array | None = None


@dataclass(frozen=True)
class Dropout:
    """How a step drops attention weights of the mapping layers.

    Attributes:
      project: the family's `dropping`.
      rate: share of the weights that are dropped.
    """

    project: Callable[[Any, jax.Array, jax.Array, float], jax.Array]
    rate: float


@dataclass(frozen=True)
class Static:
    """The static argument of a step; steps with equal ones share a program.

    Attributes:
      merge: makes the model from trainable and frozen weights.
      objective: the losses of a unit, and what they need. Fine-tuning minimises its `erase`.
      gradients: computes the losses' gradients (`sare_jax.training.gradients.choose`).
      perturbation: how ε* is found.
      prefix: the tokens that all rows begin with, before their image, which `projected` runs once for all.
      padded_length: tokens of the longest row of all sets, for objectives that need it; else not used.
      lexicon: tokens of names and articles, for objectives that need them.
      schedule: gives the settings of each step from the run's; None keeps the run's in every step.
      micro_batches: parts in which gradients are accumulated; divides the rows of each group.
      remat_policy: what a layer keeps for its backward pass; None keeps all.
      dropout: what the mapping layers drop; None drops nothing. Both passes of a step drop the same weights
        of a row, so that ε* is found on the function that is descended.
    """

    merge: Merge
    objective: Objective
    gradients: Gradients
    perturbation: Perturbation = Perturbation()
    prefix: tuple[int, ...] = ()
    padded_length: int = 0
    lexicon: Lexicon = NO_LEXICON
    schedule: Schedule | None = None
    micro_batches: int = 1
    remat_policy: RematPolicy | None = None
    dropout: Dropout | None = None

    def at(self, hyper: Hyper, step: jax.Array) -> Hyper:
        """The settings of this step."""
        return self.schedule(hyper, step) if self.schedule else hyper

    def key_of(self, state: TrainState) -> jax.Array | None:
        """The PRNG key of the next step, None where nothing is drawn."""
        return jax.random.fold_in(state.rng, state.step) if self.dropout else None

    def project(self, model: Any, images: Images) -> jax.Array:
        """Image embeddings float[..., P, E], by a model of `merge`."""
        if self.dropout is None or images.keys is None:
            return model.project(images.features)
        return self.dropout.project(model, images.features, images.keys, self.dropout.rate)
