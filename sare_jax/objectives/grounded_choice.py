r"""Grounded choice: where a caption names an object, absent ones become unlikely and present ones likely.

A unit is a whole caption. At an opening q, where a name starts (`sare_jax.data.openings`), let :math:`A_q`
and :math:`U_q` be the objects that are absent from and present in the image and were not named before, and V
all objects. Of one caption

.. math::

  s_q(S) &= \log p(a) \, p(S) - \log \left( p(\text{no article}) + p(a) (1 - p(V)) \right) \\
  L_{neg} &= \sum_q \mathrm{softplus}(s_q(A_q) + m) \\
  L_{pos} &= \sum_q \mathrm{softplus}(m - s_q(U_q))

with p(a) of the article and p(S) of the first tokens of S where the name starts, both read off one forward
pass of the caption itself (`sare_jax.objectives.choosing.OpeningChoices`).
:math:`L_{sent} = \sum_t KL(p_0 \| p_\theta)` is over the caption's tokens where neither it nor the starting
weights name something (`KeptTokens`); of a question, over the one token of its answer, under the same rule.

The log-odds are against naming nothing, not against other objects: otherwise an absent object would be
unlikely wherever a present one is likely, and nothing would be learnt of where to stop.

With the means over units, the loss of B captions

.. math::

  \tfrac{1}{4B} \textstyle\sum_q \mathrm{softplus}(s_q(A_q) + m)
  + \tfrac{w}{4B} \sum_q \mathrm{softplus}(m - s_q(U_q)) + k \, \overline{KL}_{captions}
  + v \, \overline{KL}_{answers}

has `neg_weight` 1/4, `pos_weight` w/4, `sent_weight` k and `samples.answers_weight` v/k
(`sare_jax.data.choices.with_answers` weighs the units of L_sent so that it is a sum of two means).
"""

import functools

import jax
import jax.numpy as jnp

from sare_jax.objectives import Objective
from sare_jax.objectives.choosing import Choice, KeptTokens, OpeningChoices
from sare_jax.objectives.likelihood import kl_by_token
from sare_jax.objectives.needs import TokenDistributions


def grounded_choice(margin: float = 2.0, top: int = 64) -> Objective:
    """L_neg and L_pos by openings, L_sent by divergence; for the samples `choices`.

    Args:
      margin: m, how far log-odds are driven below −m and above m.
      top: likeliest tokens that the divergence tells apart; vocabulary − 1 makes it exact.

    Raises:
      ValueError: a value is out of range.
    """
    if margin < 0:
        raise ValueError(f"margin: must not be negative, got {margin}")
    if top < 1:
        raise ValueError(f"top: must be at least 1, got {top}")
    return Objective(
        functools.partial(absent_loss, margin=margin),
        functools.partial(retain_loss, margin=margin),
        needs=(
            OpeningChoices("absent", sets=("neg",)),
            OpeningChoices("present", sets=("pos",)),
            TokenDistributions(top, sets=("sent",)),
            KeptTokens(),
        ),
    )


def absent_loss(log_probs: jax.Array, mask: jax.Array, choice: Choice, *, margin: float) -> jax.Array:
    """Σ softplus(s + m) over the openings of a unit at which something absent can be named.

    Args:
      log_probs: float32[..., W], not used.
      mask: bool[..., W], tokens of the unit.
      choice: of `OpeningChoices`, among absent objects.
      margin: m.

    Returns:
      float32[...]; 0 without such an opening.
    """
    return _over_openings(mask, choice, choice.odds + margin)


def retain_loss(
    log_probs: jax.Array,
    mask: jax.Array,
    choice: Choice | None = None,
    distributions: tuple[jax.Array, jax.Array] | None = None,
    kept: jax.Array | None = None,
    *,
    margin: float,
) -> jax.Array:
    """Of a unit of D_pos Σ softplus(m − s) over its openings; of D_sent the divergence over its kept tokens.

    Args:
      log_probs: float32[..., W], not used.
      mask: bool[..., W], tokens of the unit.
      choice: of `OpeningChoices`, among present objects; of D_pos alone.
      distributions: of `TokenDistributions`; of D_sent alone.
      kept: bool[..., W], of `KeptTokens`; of D_sent alone.
      margin: m.

    Returns:
      float32[...].

    Raises:
      ValueError: a unit has neither.
    """
    if choice is not None:
        return _over_openings(mask, choice, margin - choice.odds)
    if distributions is None or kept is None:
        raise ValueError("grounded_choice: units have neither choices nor distributions")
    return jnp.sum(jnp.where(mask & kept, kl_by_token(distributions), 0), -1)


def _over_openings(mask: jax.Array, choice: Choice, excess: jax.Array) -> jax.Array:
    # Masked before, not afterwards: what is no opening may be anything.
    return jnp.sum(jnp.where(mask, jax.nn.softplus(jnp.where(choice.there, excess, -jnp.inf)), 0), -1)
