"""The demo's exact coverage, by hand and on the world's own texts."""

import dataclasses

import numpy as np
import pytest

from sare_jax.demo.coverage import METRIC, told
from sare_jax.demo.scenes import sample_scene
from sare_jax.demo.world import build
from sare_jax.demo.writer import describe
from sare_jax.errors import UserError
from sare_jax.evaluation.metrics.metric import AtHand
from sare_jax.records.coco import read_truth
from sare_jax.records.texts import match_captions

THERE = [("dog", "left"), ("bus", "right"), ("kite", "middle")]


@pytest.mark.parametrize(
    ("caption", "named", "placed"),
    [
        ("", 0, 0),
        ("On the street, a dog rests on the left, and a bus stops on the left.", 2, 1),
        ("A dog is near a bus on the right.", 2, 1),
        ("A dog rests, and on the left a bus stops on the right while a kite hovers in the middle.", 3, 2),
        ("A dog rests on the right. Further on, a dog rests on the left.", 1, 1),
        ("A cat sits on the left, and a car waits on the right.", 0, 0),
        ("The light on the left is soft.", 0, 0),
    ],
)
def test_facts_are_counted_as_by_hand(caption, named, placed):
    assert told(caption, THERE) == (3, named, placed)


def test_a_writer_that_tells_all_it_sees_covers_all():
    """With boldness 0 the world's writer names what is there, six things at the most, with their sides."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = sample_scene(rng)
        there = [(item.category, item.side) for item in scene.objects]
        assert told(describe(scene, rng, boldness=0.0), there) == (len(there),) * 3


def test_measured_from_a_worlds_files(tmp_path):
    build(tmp_path / "world", train=0, val=0, test=4, seed=2)
    truth = read_truth(tmp_path / "world" / "annotations")
    first, *others = truth.image_ids
    name = truth.instances[first][0]
    captions = [{"image_id": first, "caption": f"There is a {name}."}]
    captions += [{"image_id": image_id, "caption": "Nothing."} for image_id in others]
    at_hand = AtHand(captions, match_captions(captions, truth), truth, {}, 50, 0)
    result = METRIC.measure(at_hand, None)
    objects = sum(len(truth.instances[image_id]) for image_id in truth.image_ids)
    assert result["coverage"] == pytest.approx(100 / (2 * objects))
    assert result["objects"] == pytest.approx(100 / objects)
    assert result["placed"] == 0
    with pytest.raises(UserError, match=r"t\.json: no boxes of image"):
        METRIC.measure(dataclasses.replace(at_hand, truth=dataclasses.replace(truth, source="t.json")), None)
    low, high = result["intervals"]["coverage"]
    assert low <= result["coverage"] <= high
