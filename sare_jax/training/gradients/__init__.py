"""Gradients of the losses of rows: two ways, one signature, chosen by where the trainable parameters lie.

    gradients(static, params, frozen, groups, features, counts, wanted) → gradient of each sum, losses by set

with

  static: the losses, and how the model is made.
  params, frozen: trainable parameters θ, and the others.
  groups: name of a group → its rows.
  features: name of a group → `Images` of its rows.
  counts: set → float32[], units of the whole batch over all devices and micro-batches (`count_units`). It is
    the divisor of L_k also when `groups` are one micro-batch, so that the results of all micro-batches add
    up.
  wanted: for each sum whose gradient is wanted, set → weight of L_neg, L_pos or L_sent in it.
"""

import re
from typing import Protocol

from sare_jax.errors import UserError
from sare_jax.models.interface import Family
from sare_jax.models.shared import partition
from sare_jax.training.gradients import general, projected
from sare_jax.training.state import Params
from sare_jax.training.static import Gradients

__all__ = ["Divided", "of_model"]


class Divided(Protocol):
    """A model divided into what is trained and what is not: a `LoadedModel`, or the shapes of one."""

    @property
    def params(self) -> Params:
        """The trainable parameters."""

    @property
    def family(self) -> Family:
        """Says which parameters act on image features, and on which these depend."""


def of_model(model: Divided) -> Gradients:
    """The gradient function that can differentiate every trainable parameter of a model; see `choose`."""
    return choose(model.params, mapping=model.family.mapping, encoder=model.family.encoder)


def choose(params: Params, *, mapping: str, encoder: str) -> Gradients:
    """The gradient function that can differentiate every leaf of the trainable parameters.

    Args:
      params: trainable parameters, whose '/'-joined paths decide.
      mapping: regular expression on whole paths; matches the parameters that act on image features alone.
      encoder: regular expression on whole paths; matches the parameters on which image features depend.

    Returns:
      `projected.gradients` where all act on image features alone, which spares the language model's weight
      gradients and runs the rows' common prefix once; else `general.gradients`.

    Raises:
      UserError: image features depend on a parameter.
    """
    paths = list(partition.flatten(params))
    inside = [path for path in paths if re.fullmatch(encoder, path)]
    if inside:
        raise UserError(
            f"model.trainable: {inside[0]} lies in the image encoder, whose features are computed once and "
            "get no gradient; leave it out"
        )
    if all(re.fullmatch(mapping, path) for path in paths):
        return projected.gradients
    return general.gradients
