import json

import numpy as np
import open_clip
import pytest
import torch

from sare_jax.curation.clip import Clip, ClipConfig
from sare_jax.curation.recipe import Recipe
from sare_jax.curation.stage import curate
from sare_jax.curation.truth import Truth
from sare_jax.demo import train_clip
from sare_jax.demo.render import render
from sare_jax.demo.scenes import Object, Scene, sample_scene
from sare_jax.demo.train_clip import Crop, Text, matches, sample_crop, sample_text
from sare_jax.demo.writer import describe
from sare_jax.language.words import categories_in
from sare_jax.settings import QuantileThresholds


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def thing(category: str, colour: str = "red", box: tuple = (40, 40, 80, 80)) -> Object:
    return Object(category, box, box, colour, False)


def test_open_clip_loads_it_like_any_other_folder():
    name = f"local-dir:{train_clip.OUT}"
    model, transform = open_clip.create_model_from_pretrained(name)
    tokens = open_clip.get_tokenizer(name)(["A photo containing dog.", "unheard"])
    assert tokens.argmax(-1).tolist() == [6, 2]  # the end token, where the text tower pools
    scene = sample_scene(np.random.default_rng(0))
    image = transform(render(scene, np.random.default_rng(0)))[None]
    logits, _ = model.eval().get_logits(image, tokens)
    assert torch.isfinite(logits).all()
    assert sum(path.stat().st_size for path in train_clip.OUT.iterdir()) < 2.5e6


def test_scores_of_grounded_and_hallucinated_objects_overlap():
    area = train_clip.measure(train_clip.OUT, train_clip.WINDOWS, scenes=120)
    assert 0.8 < area < 0.97


def test_it_knows_the_words_of_the_world():
    clip = Clip(ClipConfig(str(train_clip.OUT), device="cpu"))
    features = clip.encode_phrases(["dog", "cat", "living room", "unheard", "of"])
    assert len(np.unique(features.round(4), axis=0)) >= 4


def test_crop_tells_seen_from_partly_seen_and_hidden():
    full = thing("dog", box=(0, 0, 128, 128))
    corner = thing("cup", box=(0, 0, 10, 10))
    scene = Scene("kitchen", (full, corner))
    image = render(scene, np.random.default_rng(0))
    kinds = set()
    for seed in range(200):
        crop = sample_crop(scene, image, np.random.default_rng(seed))
        assert crop.pixels.shape == (64, 64, 3)
        assert crop.place == "kitchen"
        kinds.add(("dog" in crop.partly, "dog" in {o.category for o in crop.shown}, corner in crop.shown))
        assert not crop.partly & {o.category for o in crop.shown}
    assert {(True, False, False), (False, True, True)} <= kinds


def test_matches_knows_true_false_and_open():
    crop = Crop(np.zeros((64, 64, 3), np.uint8), "kitchen", (thing("cup", "blue"),), frozenset({"bowl"}))
    texts = [
        Text("cup", (("cup", ""),)),
        Text("blue cup", (("cup", "blue"),)),
        Text("red cup", (("cup", "red"),)),
        Text("bowl", (("bowl", ""),)),
        Text("cup and bowl", (("cup", ""), ("bowl", ""))),
        Text("dog and bowl", (("dog", ""), ("bowl", ""))),
        Text("kitchen", place="kitchen"),
        Text("cup in office", (("cup", ""),), "office"),
    ]
    assert matches(texts, [crop]).tolist() == [[1, 1, 0, -1, -1, 0, 1, 0]]


def test_texts_are_true_of_their_crop():
    rng = np.random.default_rng(1)
    for _ in range(50):
        scene = sample_scene(rng)
        crop = sample_crop(scene, render(scene, rng), rng)
        assert matches([sample_text(crop, rng)], [crop]).item() == 1


def test_training_is_seeded(tmp_path):
    for name in ("a", "b"):
        train_clip.train(tmp_path / name, steps=3, seed=5, batch_size=8, scenes=6)
    first, second = ((tmp_path / n / "open_clip_model.safetensors").read_bytes() for n in ("a", "b"))
    assert first == second


def test_quantiles_find_hallucinations_better_than_chance(tmp_path):
    rng = np.random.default_rng(7)
    (tmp_path / "images").mkdir()
    lines, categories = [], {}
    for i in range(60):
        scene = sample_scene(rng)
        render(scene, rng).save(tmp_path / "images" / f"{i}.png")
        categories[i] = scene.categories
        lines.append(json.dumps({"image_id": i, "image": f"{i}.png", "caption": describe(scene, rng)}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    manifest = curate(
        tmp_path / "captions.jsonl",
        tmp_path / "images",
        tmp_path / "curated",
        Recipe(
            clip=ClipConfig(str(train_clip.OUT), device="cpu"),
            windows=train_clip.WINDOWS,
            thresholds=QuantileThresholds(q0=0.5, q1=0.12, q2=0.5),
        ),
        truth=Truth(categories, lambda phrase: [m.category for m in categories_in(phrase)]),
    )
    audit = manifest["audit"]
    assert audit["neg"]["precision"] > 1.8 * audit["hallucinated"]
    assert audit["pos"]["precision"] > 1 - 0.6 * audit["hallucinated"]
