"""Which objects could be named at openings, and which of them count."""

import numpy as np

from sare_jax.data.openings import openings, vocabulary
from sare_jax.language.words import coco_table
from sare_jax.records.coco import Truth
from sare_jax.stages.probing import choices_of

TEXTS = [
    "A man sits. A woman walks by a dog, and a bench stands near a car.",
    "A dog barks. A cat sleeps by a bench.",
]
TRUTH = Truth({1: ("person", "dog", "bench"), 2: ("dog", "cat")}, {}, {}, coco_table(), "test")
WORDS = vocabulary(TEXTS, ["man", "woman", "dog", "bench", "car", "cat", "lamp post"])


def chosen(tokens=None):
    """(image, what the caption names at the opening, object, present, named) of every choice."""
    found = [openings(text, WORDS) for text in TEXTS]
    at = [WORDS.names[opening.object] for there in found for opening in there]
    names = [(tokens or {}).get(name, place) for place, name in enumerate(WORDS.names)]
    result = choices_of([1, 2], TEXTS, found, WORDS, names, TRUTH)
    return [
        (int(image), at[opening], WORDS.names[thing], bool(present), bool(named))
        for image, opening, thing, present, named in zip(*result, strict=True)
    ]


def test_each_opening_has_what_was_not_named_before_with_its_truth():
    rows = [row for row in chosen() if row[0] == 0]
    # The woman is a person, and one was named: at her opening nothing of that category counts.
    at_woman = [row[2:] for row in rows if row[1] == "woman"]
    assert ("dog", True, False) in at_woman
    assert ("car", False, False) in at_woman
    assert not {name for name, *_ in at_woman} & {"man", "woman"}
    assert ("dog", True, True) in [row[2:] for row in rows if row[1] == "dog"]
    at_car = {row[2]: row[3:] for row in rows if row[1] == "car"}
    assert at_car == {"car": (False, True), "cat": (False, False)}


def test_openings_of_the_second_caption_come_behind_those_of_the_first():
    named = [row[1:] for row in chosen() if row[4] and row[0] == 1]
    assert named == [("cat", "cat", True, True), ("bench", "bench", False, True)]


def test_names_of_one_token_count_once_and_not_where_their_truth_differs():
    alike = [row for row in chosen({"car": 99, "cat": 99}) if row[1] == "car"]
    assert [row[2:] for row in alike] == [("car", False, True)]  # both absent: the one that is named
    other = [row for row in chosen({"dog": 99, "car": 99}) if row[1] == "woman"]
    assert not {row[2] for row in other} & {"dog", "car"}  # one present, one absent


def test_without_openings_there_are_no_choices():
    result = choices_of([1], ["Nothing."], [[]], WORDS, [0] * len(WORDS), TRUTH)
    assert all(len(column) == 0 for column in result)
    assert result.present.dtype == np.bool_
