"""CHAIR_S of some categories alone, from a result of CHAIR without measuring again.

A result holds the categories that each caption invents. So it tells, for the categories that an attack taught
and for the others, how many captions invent an object of these.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.schema import checked

COLUMNS = ("captions", "hallucinated")
CHAIR_S = bootstrap.share(1, 0)


@dataclass(frozen=True)
class _PerImage:
    image_id: list[int] | list[str]
    invented: list[list[str]] | None = None


def counts_of(result: dict[str, Any], categories: Collection[str]) -> np.ndarray:
    """Whether each caption invents an object of some categories.

    Args:
      result: what `chair.score` returned.
      categories: names of the categories that count, as the word table spells them.

    Returns:
      int[n, 2], one row a caption in the result's order: 1, and 1 where it invents one of them, else 0.

    Raises:
      UserError: the result does not hold, or not in this form, what each caption invented.
    """
    held = checked(result.get("per_image"), _PerImage, "chair.per_image")
    if held.invented is None or len(held.invented) != len(held.image_id):
        raise UserError("chair.per_image: holds no `invented` categories; score the captions again")
    wanted = frozenset(categories)
    return np.array([[1, int(not wanted.isdisjoint(names))] for names in held.invented])


def share_inventing(result: dict[str, Any], categories: Collection[str]) -> dict[str, Any]:
    """CHAIR_S that counts objects of some categories alone.

    Args:
      result: what `chair.score` returned.
      categories: names of the categories that count, as the word table spells them.

    Returns:
      JSON-able: `chair_s` in percent, its 95 % `interval`, and `n` captions.

    Raises:
      UserError: the result does not hold, or not in this form, what each caption invented.
    """
    counts = counts_of(result, categories)
    return {
        "chair_s": bootstrap.value(counts, CHAIR_S),
        "interval": bootstrap.interval(counts, CHAIR_S),
        "n": len(counts),
    }
