from collections import Counter

import numpy as np
import pytest

from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.scenes import KINDS, SIZE, Object, Scene, _covered, sample_scene


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [sample_scene(rng) for _ in range(1500)]


def test_world_is_as_large_as_promised():
    assert len(KINDS) >= 5
    assert 20 <= len(CATEGORIES) <= 24
    assert len({category.id for category in CATEGORIES.values()}) == len(CATEGORIES)
    assert {name for kind in KINDS.values() for name in kind.weights} == set(CATEGORIES)


def test_ids_are_those_of_coco():
    known = {"person": 1, "bus": 6, "bench": 15, "cow": 21, "kite": 38, "couch": 63, "vase": 86}
    assert {name: CATEGORIES[name].id for name in known} == known


def test_scene_holds_two_to_five_different_objects_of_its_kind(scenes):
    counts = Counter(len(scene.objects) for scene in scenes)
    assert set(counts) == {2, 3, 4, 5}
    assert min(counts.values()) > 100
    for scene in scenes:
        assert len(scene.categories) == len(scene.objects)
        assert scene.categories <= set(KINDS[scene.kind].weights)


def test_every_category_and_kind_occurs(scenes):
    seen = Counter(name for scene in scenes for name in scene.categories)
    assert set(seen) == set(CATEGORIES)
    assert min(seen.values()) > 60
    assert set(Counter(scene.kind for scene in scenes)) == set(KINDS)


def test_boxes_lie_in_the_image_and_show(scenes):
    for scene in scenes:
        for item in scene.objects:
            left, top, right, bottom = item.box
            assert 0 <= left < right <= SIZE
            assert 0 <= top < bottom <= SIZE
            assert item.area > 80
        assert [item.full_box[3] for item in scene.objects] == sorted(
            item.full_box[3] for item in scene.objects
        )


def test_objects_cover_one_another_only_in_part(scenes):
    overlaps = [
        _covered(first.box, second.box)
        for scene in scenes
        for index, first in enumerate(scene.objects)
        for second in scene.objects[:index]
    ]
    assert max(overlaps) <= 0.3
    assert np.mean(np.array(overlaps) > 0.05) > 0.05  # occlusion does occur


def test_companions_keep_company(scenes):
    for kind in KINDS.values():
        here = [scene.categories for scene in scenes if scene.kind == kind.name]
        (first, second), _ = max(kind.companions.items(), key=lambda item: item[1])
        with_first = np.mean([second in names for names in here if first in names])
        without = np.mean([second in names for names in here if first not in names])
        assert with_first > without + 0.05, kind.name


def test_side_follows_the_centre():
    def at(left: float, right: float) -> str:
        return Object("cup", (left, 0, right, 9), (left, 0, right, 9), "red", False).side

    assert [at(0, 40), at(50, 78), at(90, 128)] == ["left", "middle", "right"]


def test_same_seed_same_scene():
    first, second = (sample_scene(np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert first != sample_scene(np.random.default_rng(8))
