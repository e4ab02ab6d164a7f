"""Divides the object categories in two: an attack teaches with one half and is measured on the other."""

from collections.abc import Iterable, Sequence

import numpy as np

from sare_jax.language.words import WordTable, categories_in


def halves(categories: Sequence[str], seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divides categories at random.

    Args:
      categories: names of the categories, in any order; repeated ones count once.
      seed: decides the division; the same seed divides the same names alike.

    Returns:
      Two halves, each in alphabetical order; of an odd number of names the second half has one more.
    """
    names = sorted(set(categories))
    order = np.random.default_rng(seed).permutation(len(names))
    first = {names[place] for place in order[: len(names) // 2]}
    return tuple(name for name in names if name in first), tuple(n for n in names if n not in first)


def category_of(name: str, table: WordTable) -> str | None:
    """The category of an object's free name ("small brown dogs": dog); None where it has none or several."""
    named = categories_named([name], table)
    return named.pop() if len(named) == 1 else None


def categories_named(texts: Iterable[str], table: WordTable) -> set[str]:
    """All categories that some texts name."""
    return {mention.category for text in texts for mention in categories_in(text, table)}
