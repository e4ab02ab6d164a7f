"""What holds for 80,000 images: memory, and going on after a kill."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from sare_jax import files
from sare_jax.curation import scoring, stage
from sare_jax.curation.clip import Clip, ClipConfig
from sare_jax.curation.objects import spacy_extractor
from sare_jax.curation.recipe import Recipe
from sare_jax.curation.scored import Work, local
from sare_jax.curation.windows import Windows, window_grid
from sare_jax.settings import QuantileThresholds
from tests.curation.tiny_clip import CAPTIONS, write_captions

SMALL = Windows(patch=16, window=4)
BATCH = 2


@pytest.fixture
def many(tmp_path):
    """400 captions of 400 pictures."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    records = []
    for i in range(400):
        Image.fromarray(rng.integers(0, 255, (80, 64 + i % 40, 3), np.uint8)).save(
            tmp_path / "images" / f"{i}.png"
        )
        records.append({"image_id": i, "image": f"{i}.png", "caption": CAPTIONS[i % len(CAPTIONS)]})
    write_captions(tmp_path / "captions.jsonl", records)
    return tmp_path / "captions.jsonl", tmp_path / "images"


def test_a_killed_run_goes_on_and_gives_the_same_bytes(many, clip_folder, nlp, tmp_path):
    captions, images = many
    paths = ["--captions", captions, "--images", images, "--out", tmp_path / "killed", "--clip", clip_folder]
    options = ["--device", "cpu", "--patch", 16, "--image-batch", BATCH]
    options += [f"--thresholds.{pair}" for pair in ("kind=quantile", "q0=0.7", "q1=0.3", "q2=0.4")]
    command = [sys.executable, "-m", "sare_jax.curation", *map(str, [*paths, *options])]
    journal = tmp_path / ".killed_work" / "scores" / "scores.jsonl"
    with subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    ) as run:
        while run.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 20):
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
    kept = journal.read_bytes().count(b"\n")
    assert 20 < kept < 400 // BATCH, "killed too late"
    assert not (tmp_path / "killed").exists()
    ran = []

    def counting(scorer, batches):
        ran.append(len(batches))
        return local(scorer, batches)

    def curate(name):
        return stage.curate(
            captions,
            images,
            tmp_path / name,
            Recipe(
                clip=ClipConfig(str(clip_folder), device="cpu"),
                thresholds=QuantileThresholds(q0=0.7, q1=0.3, q2=0.4),
                windows=SMALL,
                extractor=spacy_extractor(nlp),
                work=Work(image_batch=BATCH),
                engine=counting,
            ),
        )

    assert curate("killed") == curate("whole")
    assert ran == [400 // BATCH - kept, 400 // BATCH]
    assert journal.read_bytes() == (tmp_path / ".whole_work" / "scores" / "scores.jsonl").read_bytes()
    assert files.digest(tmp_path / "killed") == files.digest(tmp_path / "whole")


def test_decoding_runs_ahead_but_not_far(many, clip_folder, monkeypatch):
    _, images = many
    loaded = []
    original = scoring.load_image

    def load_image(path, max_pixels):
        loaded.append(path.name)
        return original(path, max_pixels)

    monkeypatch.setattr(scoring, "load_image", load_image)
    clip = Clip(ClipConfig(str(clip_folder), device="cpu"))
    paths = [images / f"{i}.png" for i in range(400)]
    parts = scoring.view_parts(paths, clip, SMALL, workers=2)
    for taken in range(1, 41):
        next(parts)
        if taken % 10 == 0:
            time.sleep(0.05)  # as an encoder that is slower than the decoder
        assert taken <= len(loaded) <= taken + 8
    assert sorted(loaded, key=lambda n: int(n[:-4])) == [f"{i}.png" for i in range(len(loaded))]
    parts.close()
    assert len(loaded) <= 48


def test_a_large_picture_comes_in_parts_and_scores_as_in_one(clip_folder, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (500, 700, 3), np.uint8)).save(tmp_path / "large.png")
    Image.fromarray(rng.integers(0, 255, (90, 90, 3), np.uint8)).save(tmp_path / "small.png")
    paths = [tmp_path / name for name in ("small.png", "large.png", "small.png")]
    clip = Clip(ClipConfig(str(clip_folder), device="cpu"))

    def features(part):
        monkeypatch.setattr(scoring, "_PART", part)
        parts = list(scoring.view_parts(paths, clip, SMALL, workers=2))
        return parts, scoring.encode_images(iter(parts), 3, clip, 50)

    parts, small_parts = features(64)
    grid = window_grid(700, 500, SMALL)
    assert max(len(part.pixels) for part in parts) == 64
    assert sum(len(part.pixels) for part in parts if part.grid == grid) == grid[0] * grid[1] > 1000
    for a, b in zip(small_parts, features(10_000)[1], strict=True):
        assert a.grid == b.grid
        np.testing.assert_array_equal(a.features, b.features)


def test_phrases_are_encoded_once_each_and_kept(many, clip_folder, nlp, tmp_path, monkeypatch):
    captions, images = many
    monkeypatch.setattr("sare_jax.curation.scored._PHRASE_BATCH", 3)
    asked = []
    original = Clip.encode_phrases

    def encode_phrases(self, phrases):
        if len(asked) == 2 and not (tmp_path / "again").exists():
            (tmp_path / "again").touch()
            raise KeyboardInterrupt
        asked.append(list(phrases))
        return original(self, phrases)

    monkeypatch.setattr(Clip, "encode_phrases", encode_phrases)

    def curate():
        return stage.curate(
            captions,
            images,
            tmp_path / "out",
            Recipe(
                clip=ClipConfig(str(clip_folder), device="cpu"),
                thresholds=QuantileThresholds(q0=0.7, q1=0.3, q2=0.4),
                windows=None,
                extractor=spacy_extractor(nlp),
            ),
        )

    with pytest.raises(KeyboardInterrupt):
        curate()
    manifest = curate()
    phrases = [phrase for batch in asked for phrase in batch]
    assert len(phrases) == len(set(phrases)) == manifest["counts"]["phrases"] > 6
    assert manifest["counts"]["objects"] > 1000
