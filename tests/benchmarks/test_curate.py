import dataclasses
import re

import numpy as np
import pytest
import torch
from transformers import CLIPConfig

from benchmarks import curate
from sare_jax.curation.clip import Clip, ClipConfig
from sare_jax.curation.scored import Plan, Work
from sare_jax.curation.windows import Windows

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIG = CLIPConfig(vision_config=SMALL | {"patch_size": 56}, text_config=SMALL, projection_dim=16)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    model, folder = curate.write_models(tmp_path_factory.mktemp("clip"), CONFIG)
    return model, Clip(ClipConfig(str(folder), device="cpu"))


@pytest.fixture(params=[Windows(patch=96), None], ids=["windows", "whole"])
def setting(models, request, tmp_path):
    model, clip = models
    objects = curate.write_images(tmp_path / "images", 2)
    plan = Plan(request.param, tmp_path / "images", Work(image_batch=2, view_batch=5))
    return curate.Setting(clip, model, curate.processor(), plan, objects)


def test_weights_in_both_forms_give_the_same_features(models):
    model, clip = models
    pixels = torch.rand(3, 3, 224, 224)
    texts = ["A photo containing red dog.", "a", "dog " * 80]
    ids = curate.processor().tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    with torch.inference_mode():
        theirs = model(pixel_values=pixels, **ids)
        ours = clip._model.encode_image(pixels, normalize=True)
        ours_text = clip._model.encode_text(clip._tokenizer(texts), normalize=True)
    np.testing.assert_allclose(ours, theirs.image_embeds, atol=1e-5)
    np.testing.assert_allclose(ours_text, theirs.text_embeds, atol=1e-5)
    assert clip.scale == pytest.approx(100, rel=1e-5)


def test_the_stage_scores_as_the_loop_of_the_lineage(setting):
    ours, theirs = curate.stage(setting), curate.lineage(setting)
    assert ours.shape == (2, curate.OBJECTS)
    assert theirs.std() > 1e-2
    np.testing.assert_allclose(ours, theirs, atol=curate.TOLERANCE)


def test_the_report_compares_in_turns(setting, capsys):
    difference = curate.report("windows", setting, rounds=1)
    printed = capsys.readouterr().out
    assert difference < curate.TOLERANCE
    assert re.search(r"windows: 2 images, 20 objects, \d+ phrases", printed)
    for name in ("encoder", "stage", "lineage"):
        assert re.search(rf"^  {name} +[\d.]+ images/s; +[\d.]+ ms CPU an image", printed, re.MULTILINE)
    assert re.search(r"stage / encoder: [\d.]+ by wall clock, [\d.]+ by CPU time \(goal 0.95\)", printed)
    assert re.search(r"stage / lineage: [\d.]+ by wall clock, [\d.]+ by CPU time \(goal 3\)", printed)
    assert printed.count("rest") == 2


def test_encoders_answer_again_after_the_rest_was_measured(setting):
    same = next(iter(setting.objects.values()))
    setting = dataclasses.replace(setting, objects=dict.fromkeys(setting.objects, same))
    before = curate.lineage(setting)
    costs = curate.without_encoder(setting, lambda: curate.measured(lambda: curate.lineage(setting)))
    assert np.ptp(costs.scores, axis=0).max() < 1e-4  # all images look alike
    assert np.ptp(before, axis=0).max() > 1e-2
    np.testing.assert_array_equal(curate.lineage(setting), before)
