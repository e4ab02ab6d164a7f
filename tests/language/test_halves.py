"""Halves of categories, and the category of a free name."""

import pytest

from sare_jax.language.halves import categories_named, category_of, halves
from sare_jax.language.words import coco_table

TABLE = coco_table()


def test_halves_divide_all_categories_evenly_by_seed():
    divisions = {seed: halves(TABLE.categories, seed) for seed in range(5)}
    for first, second in divisions.values():
        assert len(first) == len(second) == 40
        assert set(first) | set(second) == set(TABLE.categories)
        assert list(first) == sorted(first)
    assert len(set(divisions.values())) == 5
    assert halves(TABLE.categories[::-1], 3) == divisions[3]
    assert [len(half) for half in halves(["a", "b", "c"], 0)] == [1, 2]


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("dog", "dog"),
        ("two small brown dogs", "dog"),
        ("sofa", "couch"),
        ("shiny lamp", None),
        ("dog beside a car", None),
        ("", None),
    ],
)
def test_the_category_of_a_free_name(name, category):
    assert category_of(name, TABLE) == category


def test_categories_that_texts_name():
    assert categories_named(["a man with a cup", "sofas and a lamp"], TABLE) == {"person", "cup", "couch"}
