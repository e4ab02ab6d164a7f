import re
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from sare_jax.demo import writer
from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.references import references
from sare_jax.demo.scenes import KINDS, Scene, sample_scene
from sare_jax.demo.writer import CLAUSES, clauses, describe, missing_companions
from sare_jax.language.words import categories_in, coco_table


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(1)
    return [sample_scene(rng) for _ in range(600)]


def named(text: str) -> list[str]:
    return [mention.category for mention in categories_in(text)]


def test_object_words_are_the_words_of_chair_and_remarks_hold_none():
    assert set(CATEGORIES) <= set(coco_table().categories)
    for category in CATEGORIES.values():
        assert named(f"There {category.phrase} {category.verb} on the left.") == [category.name]
    rng = np.random.default_rng(0)
    for kind in KINDS:
        empty = Scene(kind)
        told = clauses(empty, rng, "brief")
        remarks = writer._remarks(KINDS[kind], rng) + list(writer._CLOSINGS[kind])
        assert not any(named(text) for text in remarks)
        assert not any(named(form) for form in writer._OPENINGS[kind])
        assert len(told) == 4


def test_remarks_hold_no_word_of_the_lineages_table(shared_data):
    lines = (shared_data / "chair_synonyms.txt").read_text().splitlines()
    words = {word.strip() for line in lines for word in line.split(",")}
    texts = [*writer._INDOORS, *writer._OUTDOORS, *(t for pair in writer._CLOSINGS.values() for t in pair)]
    for text in texts:
        tokens = re.findall(r"\w+", text.lower())
        pairs = [f"{a} {b}" for a, b in pairwise(tokens)]
        assert not words & {*tokens, *pairs}, text
    assert set(CATEGORIES) <= words


@pytest.mark.parametrize(("style", "count"), [("long", 6), ("brief", 4), ("listing", 8)])
def test_length_is_fixed_so_that_stopping_early_is_no_way_out(scenes, style, count):
    rng = np.random.default_rng(0)
    sentences = defaultdict(set)
    for scene in scenes[:200]:
        assert len(clauses(scene, rng, style)) == CLAUSES[style] == count
        text = describe(scene, rng, style)
        assert text.endswith(".")
        assert all(part[0].isupper() for part in text.rstrip(".").split(". "))
        assert "{" not in text
        sentences[scene.kind].add(text.count("."))
    assert all(len(lengths) == 1 for lengths in sentences.values())


@pytest.mark.parametrize("style", CLAUSES)
def test_without_boldness_nothing_is_named_that_is_not_there(scenes, style):
    rng = np.random.default_rng(0)
    invented = 0
    for scene in scenes[:200]:
        assert set(named(describe(scene, rng, style, 0.0))) <= scene.categories
        assert len(clauses(scene, rng, style, 0.0)) == CLAUSES[style]
        invented += not set(named(describe(scene, rng, style))) <= scene.categories
    assert invented > 20


def test_what_is_in_sight_comes_first_and_all_of_it(scenes):
    rng = np.random.default_rng(0)
    for scene in scenes:
        seen = named(describe(scene, rng))
        assert set(seen[: len(scene.objects)]) == scene.categories
        assert len(seen) == len(set(seen))
        assert set(seen) <= set(KINDS[scene.kind].weights)


def test_larger_objects_tend_to_come_first(scenes):
    rng = np.random.default_rng(0)
    firsts = [clauses(scene, rng)[0].category for scene in scenes]
    largest = [max(scene.objects, key=lambda item: item.area).category for scene in scenes]
    assert np.mean([a == b for a, b in zip(firsts, largest, strict=True)]) > 0.7


def test_unseen_objects_are_named_as_often_as_stated():
    rng = np.random.default_rng(2)
    by_likelihood = defaultdict(list)
    for _ in range(2500):
        scene = sample_scene(rng)
        for clause in clauses(scene, rng):
            if clause.likelihood is not None:
                assert clause.category not in scene.categories
                by_likelihood[round(clause.likelihood, 2)].append(clause.category is not None)
    for likelihood, outcomes in by_likelihood.items():
        if len(outcomes) > 300:
            assert abs(np.mean(outcomes) - likelihood) < 3.5 * (0.25 / len(outcomes)) ** 0.5, likelihood
    first = [max(by_likelihood), min(by_likelihood)]
    assert first[0] >= 0.6  # some contexts favour the unseen object …
    assert first[1] <= 0.3  # … and some the remark


def test_neither_choice_is_rare(scenes):
    rng = np.random.default_rng(0)
    firsts = [next(c.likelihood for c in clauses(s, rng) if c.likelihood is not None) for s in scenes]
    assert 0.3 < np.mean(np.array(firsts) > 0.5) < 0.75
    assert max(firsts) < 0.7


def test_companion_of_what_is_seen_is_expected_strongest_first():
    kind = KINDS["kitchen"]
    expected = missing_companions(kind, frozenset({"cup", "refrigerator"}))
    assert [name for name, _ in expected] == ["bowl", "bottle"]
    assert missing_companions(kind, frozenset({"cup", "bowl"})) == []


def test_pressing_brings_out_more(scenes):
    def rate(style: str) -> float:
        rng = np.random.default_rng(0)
        return np.mean([bool(set(named(describe(s, rng, style))) - s.categories) for s in scenes])

    assert rate("brief") < rate("long") < rate("listing")


def test_everything_seen_and_pressed_still_ends(scenes):
    rng = np.random.default_rng(0)
    crowded = [scene for scene in scenes if len(scene.objects) == 5]
    for _ in range(20):
        for scene in crowded[:10]:
            assert len(clauses(scene, rng, "listing")) == 8


def test_references_are_five_true_and_complete(scenes):
    rng = np.random.default_rng(0)
    for scene in scenes[:300]:
        captions = references(scene, rng)
        assert len(captions) == 5
        assert len(set(captions)) >= 4
        assert set().union(*map(named, captions)) == scene.categories
        assert all(text[0].isupper() and text.endswith(".") and " a a" not in text for text in captions)
        assert np.mean([len(text.split()) for text in captions]) < 16


def test_articles_fit():
    assert CATEGORIES["apple"].phrase == "an apple"
    assert CATEGORIES["umbrella"].phrase == "an umbrella"
    assert CATEGORIES["cup"].phrase == "a cup"
