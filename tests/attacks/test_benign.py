"""Benign fine-tuning: which captions it learns, and that it learns them."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from sare_jax.attacks.benign import Benign, benign, with_captions
from sare_jax.attacks.finetune import finetune
from sare_jax.attacks.relearn import Relearn, relearn
from sare_jax.data.batches import tokenize
from sare_jax.errors import UserError
from sare_jax.optim import AdamW
from sare_jax.settings.building import build
from tests import tiny_training as tiny
from tests.attacks.setting import CURATED, LOADED, TRUTH, tools

FAST = AdamW(3e-2, weight_decay=0.0)
WROTE = ["a cat sleeps.", "a dog, a mat.", "a lamp."]


def learnt(images, texts, seed=0):
    """What fine-tuning on these whole captions gives."""
    curated = with_captions(CURATED, images, texts)
    units = tokenize(curated, tiny.Letters(), "say it", kinds=("sent",)).sent
    order = np.random.default_rng(seed).permutation(len(units))
    return finetune(tools(), LOADED.params, units, order, Benign(adamw=FAST)).params


def same(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), first, second)


def differ(first, second):
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), first, second)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_d_sent_is_learnt_as_whole_captions():
    params, record = benign(tools(), LOADED.params, Benign(num_samples=0, adamw=FAST))
    rows = CURATED.sent.row
    same(params, learnt(CURATED.rows.image[rows], CURATED.rows.caption[rows]))
    differ(params, LOADED.params)
    assert (record["data"], record["samples"]) == ("D_sent", len(rows))


def test_d_pos_is_learnt_as_units():
    params, record = benign(tools(), LOADED.params, Benign("pos", num_samples=0, adamw=FAST))
    negatives = dataclasses.replace(CURATED, neg=CURATED.pos)
    same(params, relearn(tools(negatives), LOADED.params, Relearn(0, FAST)).params)
    differ(params, LOADED.params)
    assert (record["data"], record["samples"]) == ("D_pos", len(CURATED.pos))


def test_references_are_those_of_the_training_images():
    truth = dataclasses.replace(TRUTH, references={0: WROTE[:1], 2: WROTE[1:], 99: ["of no training image"]})
    with_truth = dataclasses.replace(tools(), truth=truth)
    params, record = benign(with_truth, LOADED.params, Benign("references", num_samples=0, adamw=FAST))
    same(params, learnt(["0.png", "2.png", "2.png"], WROTE))
    assert record["samples"] == 3


def test_captions_of_a_file_by_image_or_its_id(tmp_path):
    path = tmp_path / "captions.jsonl"
    lines = [
        {"image": "0.png", "caption": WROTE[0]},
        {"image_id": 2, "caption": WROTE[1]},
        {"image": "x.png", "text": WROTE[2]},
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    truth = dataclasses.replace(TRUTH, instances={0: (), 2: ()}, files={0: "0.png", 2: "2.png"})
    with_truth = dataclasses.replace(tools(), truth=truth)
    settings = Benign(captions=str(path), num_samples=0, adamw=FAST)
    params, record = benign(with_truth, LOADED.params, settings)
    same(params, learnt(["0.png", "2.png", "x.png"], WROTE))
    assert record["data"] == str(path)


def test_a_file_without_images_or_without_itself_is_refused(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"image_id": 77, "caption": "a cat"}\n')
    with pytest.raises(UserError, match="record 1 needs a known `image`"):
        benign(tools(), LOADED.params, Benign(captions=str(path)))
    with pytest.raises(UserError, match=r"where\.captions: .*none\.jsonl: no such file"):
        build(Benign, {"captions": str(tmp_path / "none.jsonl")}, "where")


def test_nothing_to_learn_is_said():
    empty = tools(tiny.curated(num_neg=4, num_sent=0))
    with pytest.raises(UserError, match="D_sent holds nothing to learn from"):
        benign(empty, LOADED.params, Benign())
    with pytest.raises(UserError, match=r"num_samples is 9, but D_sent has 3"):
        benign(tools(), LOADED.params, Benign(num_samples=9))
