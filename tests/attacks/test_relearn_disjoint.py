"""Relearning one half of the categories: which units it sees, and that it sees no others."""

import dataclasses

import jax
import numpy as np
import pytest

from sare_jax.attacks.relearn import Relearn, relearn
from sare_jax.attacks.relearn_disjoint import RelearnDisjoint, relearn_disjoint, units_of
from sare_jax.errors import UserError
from sare_jax.language.words import coco_table
from sare_jax.optim import AdamW
from sare_jax.records.curated import Units
from tests.attacks.setting import CURATED, LOADED, TRUTH, tools
from tests.tiny_training import SENTENCES

FAST = AdamW(1e-2, weight_decay=0.0)
NAMES = [  # object, caption, its sub-sentence
    ("small cats", 0, "a cat on a mat"),
    ("dog", 0, " a dog near it"),
    ("cup", 1, "two cups"),
    ("lamp", 1, " a warm lamp"),
    ("street", 2, " a man with a hat"),
    ("bus", 2, "a bus in the street"),
    ("man", 2, " a man with a hat, cars"),
    ("birds", 3, "birds over a lake"),
]


def units(chosen=None) -> Units:
    """D_neg of `NAMES`, or of some of its lines."""
    lines = [NAMES[place] for place in (range(len(NAMES)) if chosen is None else chosen)]
    starts = [SENTENCES[row].index(text) for _, row, text in lines]
    ends = [start + len(text) for start, (_, _, text) in zip(starts, lines, strict=True)]
    row, start, end = (np.array(x, np.int32) for x in ([row for _, row, _ in lines], starts, ends))
    names = np.array([name for name, _, _ in lines])
    return Units(row, start, end, names, start, end, np.ones(len(lines), np.float32))


def curated(chosen=None):
    return dataclasses.replace(CURATED, neg=units(chosen))


def test_units_are_told_by_their_object_and_leak_nothing_of_the_other_half():
    taught, held_out = ("bus", "cat", "cup", "person"), ("bird", "car", "dog", "fork")
    chosen, left_out = units_of(curated(), taught, held_out, coco_table())
    assert [NAMES[unit][0] for unit in chosen] == ["small cats", "cup", "bus"]
    # "lamp" and "street" are no categories, and the man's piece names cars.
    assert left_out == {"no_category": 2, "object_held_out": 2, "names_held_out": 1}


@pytest.mark.parametrize("half", [0, 1])
def test_it_is_relearning_of_these_units_alone(half):
    settings = RelearnDisjoint(half, split_seed=1, num_samples=0, adamw=FAST, batch_size=2)
    params, record = relearn_disjoint(tools(curated()), LOADED.params, settings)
    assert sorted(record["taught"] + record["held_out"]) == sorted(TRUTH.instances[1])
    assert not set(record["taught"]) & set(record["held_out"])
    chosen, left_out = units_of(curated(), record["taught"], record["held_out"], coco_table())
    assert record["samples"] == record["units"] == len(chosen) > 0
    assert record["left_out"] == left_out
    alone, _ = relearn(tools(curated(chosen)), LOADED.params, Relearn(0, FAST, batch_size=2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), params, alone)
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), params, LOADED.params)
    assert min(jax.tree.leaves(moved)) > 1e-3


def test_the_halves_of_one_split_are_each_other():
    first, second = (
        relearn_disjoint(tools(curated()), LOADED.params, RelearnDisjoint(half, num_samples=1)).record
        for half in (0, 1)
    )
    assert (first["taught"], first["held_out"]) == (second["held_out"], second["taught"])


def test_too_many_samples_name_the_half():
    with pytest.raises(UserError, match=r"num_samples is 9, but the half of D_neg about .+ has \d"):
        relearn_disjoint(tools(curated()), LOADED.params, RelearnDisjoint(num_samples=9))
