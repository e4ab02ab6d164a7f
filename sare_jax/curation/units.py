"""Makes training units of a caption's objects: each object's first mention, with its sub-sentence."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sare_jax.curation.extractor import Mention
from sare_jax.curation.subsentences import piece_around, pieces

MOST_WORDS = 10
"""The most words of a phrase that CLIP scores; the lineage leaves longer ones empty (protocols 1.3)."""


@dataclass(frozen=True)
class Unit:
    """u_o of the paper without its image: an object, its mention and its piece (Sec. 3.3).

    Attributes:
      object: phrase that CLIP scores, in lower case.
      start: index in the caption of cur(o)'s first character, white space included; pre(o) is all before it.
      end: index behind cur(o)'s last character; closing punctuation is no part of it.
      mention_start: index in the caption of the mention's first character.
      mention_end: index behind the mention's last character.
    """

    object: str
    start: int
    end: int
    mention_start: int
    mention_end: int


def units_of(caption: str, mentions: Sequence[Mention]) -> tuple[list[Unit], Counter]:
    """Makes one unit of each distinct object, from its first mention.

    Objects are distinct by phrase with the head noun as a lemma, so "the dogs" repeats "a dog" and "a red
    hat" is another thing than "a blue hat". The lineage lists an object once a caption, too (protocols 1.2).

    Args:
      caption: the caption that the unit is a part of.
      mentions: all mentions of objects in it, in order, from an extractor.

    Returns:
      The units in the order of the caption, and reason → number of mentions left out: `repeated_mention`,
      `in_no_single_piece`, `phrase_too_long` (above `MOST_WORDS`).
    """
    spans = pieces(caption)
    units: dict[str, Unit] = {}
    dropped: Counter = Counter()
    for mention in mentions:
        name = _name(mention)
        span = piece_around(spans, mention.start, mention.end)
        if span is None:
            dropped["in_no_single_piece"] += 1
        elif len(mention.text.split()) > MOST_WORDS:
            dropped["phrase_too_long"] += 1
        elif name in units:
            dropped["repeated_mention"] += 1
        else:
            units[name] = Unit(mention.text, *span, mention.start, mention.end)
    return list(units.values()), dropped


def phrases_of(units: Iterable[Sequence[Unit]]) -> list[str]:
    """The distinct phrases of many captions' units, sorted, so that they are encoded in one fixed order."""
    return sorted({unit.object for of_caption in units for unit in of_caption})


def _name(mention: Mention) -> str:
    return " ".join([*mention.text.split()[:-1], mention.head])
