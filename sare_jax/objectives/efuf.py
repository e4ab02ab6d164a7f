r"""What EFUF's public code does beyond its paper: weight schedules and CLIP-score weights of samples.

Its loss at step t of `steps`, with s a sample's CLIP score, is

.. math::

  w_{pos}(t)\, \overline{s\, L_{ft}} + w_{neg}(t)\, \overline{(55 - s)(-L_{ft})}
  + w_{sent}\, \overline{\bar s\, L_{ft}}

over D_pos, D_neg and D_sent. The factors are 27 to 40 at its thresholds; since AdamW does not see the scale
of a gradient, they weigh samples and sets against each other alone. So the code's division of the whole by
:math:`w_{pos} + w_{sent} - w_{neg}` is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class EfufPreset:
    """The constants of EFUF's public code at the time of its paper.

    Attributes:
      pos_weight: weight of L_pos at the start and at the end.
      neg_weight: λ₁ until it begins to fall.
      sent_weight: λ₂, constant.
      neg_hold: share of the steps before λ₁ falls.
      score_sum: (23 + 32), the sum of the thresholds; a negative weighs what its score lacks of it.
    """

    pos_weight: tuple[float, float] = (1.0, 0.5)
    neg_weight: float = 0.3
    sent_weight: float = 0.2
    neg_hold: float = 0.4
    score_sum: float = 55.0


EFUF = EfufPreset()

# int32[] optimizer step → weight.
Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def pos_schedule(steps: int, preset: EfufPreset = EFUF) -> Schedule:
    """Weight of L_pos: linear from the first step to the last, 1.0 to 0.5.

    Args:
      steps: optimizer steps of the run, not micro-batches.
      preset: first and last weight.

    Returns:
      A schedule, optimizer step → weight.

    Raises:
      ValueError: `steps` is below 1.
    """
    _check(steps)
    return _line(*preset.pos_weight, begin=0, steps=steps)


def neg_schedule(steps: int, preset: EfufPreset = EFUF) -> Schedule:
    """λ₁: 0.3 until 40 % of the steps, then linear to 0 after the last.

    Args:
      steps: optimizer steps of the run, not micro-batches.
      preset: λ₁ and the share of the steps for which it stays.

    Returns:
      A schedule, optimizer step → weight; `optax.inject_hyperparams(targeted_sam)` takes it for `neg_weight`.

    Raises:
      ValueError: `steps` is below 1.
    """
    _check(steps)
    hold = preset.neg_hold * steps  # not rounded there either
    return _line(preset.neg_weight, 0.0, begin=hold, steps=steps - hold)


def score_weights(kind: str, scores: jax.typing.ArrayLike, preset: EfufPreset = EFUF) -> jax.Array:
    """The weight of each sample's loss.

    For positives and captions it is their score, so that those that fit the picture best count most. For
    negatives it is 55 − score, so that those that fit it least count most.

    Args:
      kind: set of the samples, `neg`, `pos` or `sent`.
      scores: float[...], CLIP scores in points (cosine × 100): S(o) of units, the objects' mean S(y) of
        captions.
      preset: its `score_sum` is the 55.

    Returns:
      float[...], one weight a score.
    """
    scores = jnp.asarray(scores)
    return preset.score_sum - scores if kind == "neg" else scores


def _line(first: float, last: float, *, begin: float, steps: float) -> Schedule:
    def weight(step: jax.typing.ArrayLike) -> jax.Array:
        passed = jnp.clip(jnp.asarray(step) - begin, 0, steps)
        return (first - last) * (1 - passed / steps) + last

    return weight


def _check(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"an EFUF schedule needs at least 1 optimizer step, got {steps}")
