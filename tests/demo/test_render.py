import numpy as np
import pytest

from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.drawing.pen import PALETTE, shade
from sare_jax.demo.render import DRAWINGS, render
from sare_jax.demo.scenes import KINDS, SIZE, Object, Scene, sample_scene


def pixels(scene: Scene, seed: int = 0) -> np.ndarray:
    return np.asarray(render(scene, np.random.default_rng(seed))).astype(int)


def test_every_category_has_a_drawing_and_known_colours():
    assert set(DRAWINGS) == set(CATEGORIES)
    assert {colour for category in CATEGORIES.values() for colour in category.colours} <= set(PALETTE)


def test_image_is_large_enough_for_several_windows():
    image = render(sample_scene(np.random.default_rng(0)), np.random.default_rng(0))
    assert image.mode == "RGB"
    assert image.size == (SIZE, SIZE) == (128, 128)


@pytest.mark.parametrize("name", CATEGORIES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_drawing_fills_its_box_and_little_else(name, mirrored):
    box = (40.0, 30.0, 88.0, 94.0)
    kind = next(kind.name for kind in KINDS.values() if name in kind.weights)
    item = Object(name, box, box, CATEGORIES[name].colours[0], mirrored)
    # The background draws first from the same generator, so what differs is the object, its noise and light.
    changed = np.zeros((SIZE, SIZE))
    for seed in range(4):
        changed += np.abs(pixels(Scene(kind, (item,)), seed) - pixels(Scene(kind), seed)).max(-1) > 60
    changed = changed >= 2
    left, top, right, bottom = (int(value) for value in box)
    assert changed[top:bottom, left:right].mean() > 0.12
    changed[top - 9 : bottom + 9, left - 9 : right + 9] = False
    assert changed.mean() < 0.002


def test_kinds_of_scene_look_different():
    means = [np.mean([pixels(Scene(kind), seed) for seed in range(3)], axis=0) for kind in KINDS]
    for index, first in enumerate(means):
        assert all(np.abs(first - second).mean() > 8 for second in means[:index])


def test_same_seed_same_image_and_other_seed_other_image():
    scene = sample_scene(np.random.default_rng(3))
    assert (pixels(scene, 1) == pixels(scene, 1)).all()
    assert (pixels(scene, 1) != pixels(scene, 2)).mean() > 0.5


def test_shade_runs_from_black_over_the_colour_to_white():
    assert shade((100, 50, 200), 0.5) == (50, 25, 100)
    assert shade((100, 50, 200), 1) == (100, 50, 200)
    assert shade((100, 50, 200), 2) == (255, 255, 255)
