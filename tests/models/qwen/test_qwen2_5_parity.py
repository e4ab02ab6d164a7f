"""Qwen2.5-VL against transformers', on random tiny models of six shapes that transformers itself saved."""

import numpy as np
import pytest
import torch
from transformers.vision_utils import get_vision_window_index

from sare_jax.models.shared.qwen_vl.positions import from_digits
from tests.models.qwen.comparing import (
    GRIDS,
    TOLERANCE,
    Pair,
    assert_greedy_answers_equal,
    assert_logits_equal,
    make_pair,
    relative,
    rows_of,
    theirs_batch,
)
from tests.models.qwen.tiny import SHAPES_2_5, write_qwen2_5


@pytest.fixture(scope="module", params=SHAPES_2_5)
def pair(request, tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp(request.param)
    return make_pair(folder, write_qwen2_5(folder, request.param))


def test_tower_and_merger(pair):
    vision, width = pair.theirs.config.vision_config, pair.loaded.config.text.width
    for index, (columns, rows) in enumerate(GRIDS):
        given, count = pair.inputs(index), columns * rows
        with torch.no_grad():
            seen = pair.theirs.model.visual(given["pixel_values"], grid_thw=given["image_grid_thw"])
        order, _ = get_vision_window_index(
            given["image_grid_thw"], vision.spatial_merge_size, vision.window_size, vision.patch_size
        )
        features = pair.features[index, :count, :-4]
        assert relative(features[order.numpy()].reshape(4 * count, -1), seen.last_hidden_state) <= TOLERANCE
        embeds = pair.embeds[index, :count]
        assert relative(embeds[:, :width], seen.pooler_output) <= TOLERANCE
        places = np.stack(np.divmod(np.arange(count), columns))
        np.testing.assert_array_equal(from_digits(embeds[:, width:]), places)


def test_logits_of_a_batch_with_images_of_different_sizes(pair):
    assert_logits_equal(pair)


def test_greedy_answers_are_equal(pair):
    assert_greedy_answers_equal(pair)


@pytest.mark.parametrize("pair", ["plain"], indirect=True)
@pytest.mark.parametrize(
    "name",
    [
        "model.visual.blocks.0.attn.qkv.weight",
        "model.visual.merger.ln_q.weight",
        "model.language_model.layers.1.self_attn.k_proj.bias",
        "model.language_model.layers.1.self_attn.v_proj.bias",
    ],
)
def test_one_changed_tensor_is_seen(pair, name):
    """The comparison has to be able to fail: one tensor changed by a half."""
    tokens, lengths = rows_of(pair)
    weight = pair.theirs.get_parameter(name)
    with torch.no_grad():
        kept = weight.clone()
        weight.mul_(1.5)
        reference = pair.theirs(**theirs_batch(pair, tokens, lengths)).logits
        weight.copy_(kept)
    logits = pair.logits(pair.loaded.params, tokens, pair.features)
    assert relative(logits[0, : lengths[0]], reference[0, : lengths[0]]) > 10 * TOLERANCE
