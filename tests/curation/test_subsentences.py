import itertools

import pytest

from sare_jax.curation.subsentences import piece_around, pieces


def texts(caption: str) -> list[str]:
    return [caption[start:end] for start, end in pieces(caption)]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog, a cat. Two birds!", ["A dog", " a cat", " Two birds"]),
        ("No marks at all", ["No marks at all"]),
        ("A dog; a cat: here? Yes...", ["A dog", " a cat", " here", " Yes"]),
        ("It costs 1,500 or 3.5 at 10:30, maybe.", ["It costs 1,500 or 3.5 at 10:30", " maybe"]),
        ("Mr. Smith and Dr. Doe wave. A U.S. flag", ["Mr. Smith and Dr. Doe wave", " A U.S. flag"]),
        ("Fruit, e.g. pears, etc. on a tray.", ["Fruit", " e.g. pears", " etc. on a tray"]),
        ("It is 8 a.m. The sun rises.", ["It is 8 a.m", " The sun rises"]),
        ("Harry S. Truman smiles.", ["Harry S. Truman smiles"]),
        ("It has vitamin C. The orange is ripe.", ["It has vitamin C", " The orange is ripe"]),
        ("See example.com now.The end", ["See example.com now", "The end"]),
        ('He says "stop." Then he goes.', ['He says "stop', " Then he goes"]),
        ("A café\n\nhas 🐶s. Line two,\nthree", ["A café\n\nhas 🐶s", " Line two", "\nthree"]),
        ("...", []),
        ("", []),
        ("In 2014. A year", ["In 2014", " A year"]),
        ("Number 5, 6 and 7", ["Number 5", " 6 and 7"]),
    ],
)
def test_pieces(caption, expected):
    assert texts(caption) == expected


def test_pieces_and_marks_rebuild_the_caption():
    caption = "A man, 1.5 m tall,, stands!? (Near a dog.) The end"
    spans = pieces(caption)
    gaps = [caption[a_end:b_start] for (_, a_end), (b_start, _) in itertools.pairwise(spans)]
    rebuilt = "".join(t + g for t, g in zip(texts(caption), [*gaps, ""], strict=True))
    assert rebuilt == caption
    assert all(set(gap) <= set(",.;!?:)") for gap in gaps)


def test_the_piece_is_found_by_place_and_not_by_text():
    caption = "A cat sleeps. A catapult, a cat sleeps."
    spans = pieces(caption)
    second = caption.rindex("cat")
    assert caption[slice(*piece_around(spans, second, second + 3))] == " a cat sleeps"
    assert piece_around(spans, 0, 5) == spans[0]


def test_no_single_piece_holds_a_mention_across_marks():
    caption = "long, curved"
    assert piece_around(pieces(caption), 0, len(caption)) is None
    assert piece_around(pieces("..a"), 0, 1) is None
