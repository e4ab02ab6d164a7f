"""Preferred continuations: the next piece of the caption, or its end."""

import numpy as np
import pytest

from sare_jax.data.batches import tokenize
from sare_jax.data.preferred import next_piece, with_preferred
from tests import tiny_training as tiny


@pytest.mark.parametrize(
    ("behind", "piece"),
    [
        (", a dog beside him, in the rain.", " a dog beside him"),
        (". A bird flies", " A bird flies"),
        (" near a lake.", " near a lake"),
        (', "says the sign".', ' "says the sign"'),
        (".", ""),
        ("", ""),
        ("...  ", ""),
        (" at 3.5 miles, far", " at 3.5 miles"),
    ],
)
def test_the_next_piece_ends_where_the_next_mark_does(behind, piece):
    assert next_piece(behind) == piece


def test_each_negative_has_another_continuation_of_its_own_context():
    curated = tiny.curated()
    neg = tokenize(curated, tiny.Letters(), "say it").neg
    units = with_preferred(neg, curated, tiny.Letters(), "say it")
    ended = 0
    for index in range(len(units)):
        number = units.unit[index]
        caption = tiny.SENTENCES[curated.neg.row[number]]
        tokens, first = units.preferred.tokens[index], units.preferred.start[index]
        np.testing.assert_array_equal(tokens[:first], units.tokens[index][: units.start[index]])
        piece = next_piece(caption[curated.neg.end[number] :])
        expected = [tiny.LETTERS.index(letter) for letter in piece] or [tiny.EOS]
        assert tokens[first:].tolist() == expected
        ended += not piece
    assert 0 < ended < len(units)
    row = units.row(0)
    assert set(row["preferred"]) == {"tokens", "targets", "start", "end"}
