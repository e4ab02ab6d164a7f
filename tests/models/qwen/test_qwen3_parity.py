"""Qwen3-VL against transformers', on random tiny models of six shapes that transformers itself saved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sare_jax.models.load import load_model
from sare_jax.models.shared.qwen_vl.positions import digits, from_digits, token_positions
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
from tests.models.qwen.tiny import SHAPES, write_qwen3


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp(request.param)
    return make_pair(folder, write_qwen3(folder, request.param))


def test_tower_merger_and_deepstack(pair):
    vision, width = pair.loaded.config.vision, pair.loaded.config.text.width
    for index, (columns, rows) in enumerate(GRIDS):
        given = pair.inputs(index)
        with torch.no_grad():
            seen = pair.theirs.model.visual(given["pixel_values"], grid_thw=given["image_grid_thw"])
        count = columns * rows
        assert pair.tokens_of(index) == count
        features = pair.features[index, :count, : 4 * vision.width].reshape(4 * count, -1)
        assert relative(features, seen.last_hidden_state) <= TOLERANCE
        embeds = pair.embeds[index, :count]
        assert len(seen.deepstack_features) == len(vision.taps)
        for number, reference in enumerate([seen.pooler_output, *seen.deepstack_features]):
            assert relative(embeds[:, number * width : (number + 1) * width], reference) <= TOLERANCE
        places = np.stack(np.divmod(np.arange(count), columns))
        np.testing.assert_array_equal(from_digits(embeds[:, -4:]), places)


def test_logits_of_a_batch_with_images_of_different_sizes(pair):
    assert_logits_equal(pair)


def test_greedy_answers_are_equal(pair):
    assert_greedy_answers_equal(pair)


@pytest.mark.parametrize("pair", ["plain"], indirect=True)
@pytest.mark.parametrize(
    "name",
    [
        "model.visual.pos_embed.weight",
        "model.visual.blocks.1.attn.qkv.weight",
        "model.visual.deepstack_merger_list.1.norm.bias",
        "model.language_model.layers.1.self_attn.q_norm.weight",
    ],
)
def test_one_changed_tensor_is_seen(pair, name):
    """The comparison has to be able to fail: one tensor changed by a tenth."""
    tokens, lengths = rows_of(pair)
    weight = pair.theirs.get_parameter(name)
    with torch.no_grad():
        kept = weight.clone()
        weight.mul_(1.1)
        reference = pair.theirs(**theirs_batch(pair, tokens, lengths)).logits
        weight.copy_(kept)
    logits = pair.logits(pair.loaded.params, tokens, pair.features)
    assert relative(logits[0, : lengths[0]], reference[0, : lengths[0]]) > 10 * TOLERANCE


@pytest.mark.parametrize("pair", ["plain"], indirect=True)
def test_half_precision_is_computed_in_half_precision(pair):
    tokens, _ = rows_of(pair)
    loaded = load_model(pair.loaded.folder, dtype=jnp.bfloat16)
    positions = np.tile(np.arange(tokens.shape[1]), (len(tokens), 1))

    @jax.jit
    def run(pictures):
        model = loaded.merge(loaded.params, loaded.frozen)
        features = model.encode_images(pictures)
        embeds = model.project(features)
        hidden = model.read(tokens, embeds, positions=positions)
        return features, embeds, hidden, model.logits(hidden)

    features, embeds, hidden, logits = run(pair.pictures)
    assert features.dtype == hidden.dtype == jnp.bfloat16
    assert embeds.dtype == jnp.float32
    np.testing.assert_array_equal(embeds[..., -4:], pair.embeds[..., -4:])
    exact = np.asarray(pair.logits(pair.loaded.params, tokens, pair.features))
    assert np.linalg.norm(np.asarray(logits) - exact) < 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("pair", ["plain"], indirect=True)
def test_positions_of_several_images_in_a_row(pair):
    """Rows with two images, one at the end, none, and one larger than a digit."""
    image, rng = pair.prompter.image_token_id, np.random.default_rng(1)
    rows = [
        [3, (4, 6), 2, (2, 4), 2],
        [(2, 2), 5, (8, 2), 1],
        [4, (6, 2)],
        [7],
        [1, (2, 2 * 300), 2],
    ]
    ids, place, grids = [], [], []
    for row in rows:
        made: list[tuple[int, int, int]] = []
        for part in row:
            if isinstance(part, int):
                made += [(int(token), 0, 0) for token in rng.integers(10, 400, part)]
                continue
            height, width = part
            grids.append((1, height, width))
            made += [(image, r, c) for r in range(height // 2) for c in range(width // 2)]
        ids.append([token for token, _, _ in made])
        place.append([(r, c) for _, r, c in made])
    longest = max(map(len, ids))
    tokens = np.array([row + [0] * (longest - len(row)) for row in ids])
    grid = np.array([row + [(0, 0)] * (longest - len(row)) for row in place])
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    theirs, _ = pair.theirs.model.get_rope_index(
        torch.from_numpy(tokens),
        torch.from_numpy((tokens == image).astype(np.int32)),
        image_grid_thw=torch.tensor(grids),
        attention_mask=torch.from_numpy(mask),
    )
    columns = digits(jnp.asarray(grid[..., 0]), jnp.asarray(grid[..., 1]), jnp.bfloat16)
    ours, behind = token_positions(tokens == image, *from_digits(columns))
    for row, length in enumerate(map(len, ids)):
        np.testing.assert_array_equal(ours[:, row, :length], theirs[:, row, :length])
        assert int(behind[row, length - 1]) == int(theirs[:, row, :length].max()) + 1
