from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sare_jax.models.interface import merge
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.llava.modeling import Llava
from sare_jax.models.load import abstract
from sare_jax.models.shared import reading, target
from sare_jax.models.shared.partition import unflatten
from sare_jax.models.shared.rotary import rotary_at
from sare_jax.models.shared.target import Target

IMAGE = 5
RAW = {
    "model_type": "llava",
    "image_token_index": IMAGE,
    "text_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
    },
    "vision_config": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    },
}


@pytest.fixture(scope="module")
def model() -> Llava:
    graphdef, shapes = abstract(FAMILY, LlavaConfig.from_hf(RAW), Target("cpu"))
    rng = np.random.default_rng(0)
    weights = {path: 0.2 * rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in shapes.items()}
    return merge(graphdef, {}, jax.tree.map(jnp.asarray, unflatten(weights)))


@pytest.fixture(scope="module")
def rows(model):
    """Two prompts of different length, padded, their lengths and the features of their images."""
    tokens = np.full((2, 12), 63)
    tokens[0, :7] = [1, IMAGE, IMAGE, IMAGE, IMAGE, 8, 9]
    tokens[1, :10] = [1, 7, 8, IMAGE, IMAGE, IMAGE, IMAGE, 9, 10, 11]
    features = jax.random.normal(jax.random.key(1), (2, 4, 16))
    return jnp.asarray(tokens), jnp.array([7, 10]), features


def test_decoding_step_by_step_equals_whole_rows(model, rows):
    tokens, lengths, features = rows
    new = np.array([[20, 21, 22], [30, 31, 32]])
    logits, cache = jax.jit(lambda tokens: model.prefill(tokens, features, lengths, 1, 3))(tokens)
    expected = continued(model, rows, new)
    places = np.arange(2)
    np.testing.assert_allclose(logits, expected[places, lengths - 1], rtol=1e-5, atol=1e-5)
    decode = jax.jit(partial(model.decode, parts=model.parts()))
    for step in range(3):
        logits, cache = decode(jnp.asarray(new[:, step : step + 1]), (lengths + step)[:, None], cache)
        np.testing.assert_allclose(logits[:, 0], expected[places, lengths + step], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("apart", [False, True])
def test_beams_see_their_own_past_alone(model, rows, apart, monkeypatch):
    """Three beams a row; at each step some are dropped, copied or swapped."""
    monkeypatch.setattr(target, "_APART_FROM", 0 if apart else 1 << 30)
    assert len(model.parts()) == (model.config.text.num_layers if apart else 1)
    tokens, lengths, features = rows
    _, cache = jax.jit(lambda tokens: model.prefill(tokens, features, lengths, 3, 4))(tokens)
    decode = jax.jit(partial(model.decode, parts=model.parts()))
    rng = np.random.default_rng(0)
    past = np.zeros((2, 3, 0), np.int32)
    for step in range(4):
        new = rng.integers(IMAGE + 1, 40, (2, 3, 1))
        past = np.concatenate([past, new], axis=2)
        logits, cache = decode(jnp.asarray(new[..., 0]), (lengths + step)[:, None], cache)
        for beam in range(3):
            expected = continued(model, rows, past[:, beam])[np.arange(2), lengths + step]
            np.testing.assert_allclose(logits[:, beam], expected, rtol=1e-5, atol=1e-5)
        parents = rng.integers(0, 3, (2, 3))
        cache = cache.follow(jnp.asarray(parents))
        past = np.take_along_axis(past, parents[..., None], axis=1)


def continued(model, rows, new: np.ndarray) -> jax.Array:
    """Logits at every place of the prompts with `new`, [2, n ≤ 4], behind them."""
    tokens, lengths, features = rows
    whole = np.full((2, 14), 63)
    for row, length in enumerate(lengths):
        whole[row, : length + new.shape[1]] = [*tokens[row, :length], *new[row]]
    return whole_logits(model, whole, features)


@nnx.jit
def whole_logits(model, tokens, features):
    return model.logits(model.hidden(tokens, features))


def test_padding_does_not_reach_the_text(model, rows):
    tokens, lengths, features = rows
    hidden = jax.jit(model.hidden)
    first = hidden(tokens, features)
    second = hidden(jnp.where(jnp.arange(12) < lengths[:, None], tokens, 40), features)
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(first[row, :length], second[row, :length])


def test_tk_07_image_features_go_to_the_image_tokens_in_order(model):
    """Rows with one image, two and none, against a slow loop."""
    image = [IMAGE] * 4
    tokens = np.full((3, 12), 63)
    tokens[0, :7] = [1, *image, 8, 9]
    tokens[1, :11] = [1, *image, 7, *image, 8]
    tokens[2, :4] = [1, 9, 10, 11]
    features = jax.random.normal(jax.random.key(1), (3, 8, 16))
    merged = reading.embedded(model, jnp.asarray(tokens), model.project(features))
    projected = model.projector(features)
    counts = []
    for row in range(3):
        place = 0
        for column, token in enumerate(tokens[row]):
            if token == IMAGE:
                np.testing.assert_array_equal(merged[row, column], projected[row, place])
                place += 1
            else:
                np.testing.assert_array_equal(merged[row, column], model.embed.table[...][token])
        counts.append(place)
    assert counts == [4, 8, 0]
    assert np.flatnonzero(tokens[0, :7] != IMAGE).tolist() == [0, 5, 6]


def test_remat_changes_memory_not_gradients(model, rows):
    tokens, _, features = rows

    def loss(features, policy):
        return jnp.square(model.hidden(tokens, features, policy)).sum()

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    np.testing.assert_allclose(gradient(features, policy), gradient(features, None), rtol=1e-5, atol=1e-6)


def test_rotary_is_a_rotation_by_position():
    cosine, sine = rotary_at(jnp.array([[0, 3]]), 4, 100.0)
    np.testing.assert_allclose(cosine[0, 0], [[1, 1]])
    np.testing.assert_allclose(cosine[0, 1, 0], np.cos([3.0, 0.3]), rtol=1e-6)
    np.testing.assert_allclose(sine[0, 1, 0], np.sin([3.0, 0.3]), rtol=1e-6)
