import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.models.config import LlavaConfig
from sare_jax.models.llama import rotary
from sare_jax.models.llava import Llava
from sare_jax.models.load import abstract, merge
from sare_jax.models.partition import unflatten

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
    graphdef, shapes = abstract(LlavaConfig.from_hf(RAW))
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
    logits, cache = jax.jit(lambda tokens: model.prefill(tokens, features, lengths, 12 + 3))(tokens)
    whole = np.full((2, 13), 63)
    for row, length in enumerate(lengths):
        whole[row, : length + 3] = [*tokens[row, :length], *new[row]]
    expected = jax.jit(lambda tokens: model.logits(model.hidden(tokens, features)))(whole)
    places = np.arange(2)
    np.testing.assert_allclose(logits, expected[places, lengths - 1], rtol=1e-5, atol=1e-5)
    decode = jax.jit(model.decode)
    for step in range(3):
        logits, cache = decode(jnp.asarray(new[:, step]), lengths + step, cache)
        np.testing.assert_allclose(logits, expected[places, lengths + step], rtol=1e-5, atol=1e-5)


def test_padding_does_not_reach_the_text(model, rows):
    tokens, lengths, features = rows
    hidden = jax.jit(model.hidden)
    first = hidden(tokens, features)
    second = hidden(jnp.where(jnp.arange(12) < lengths[:, None], tokens, 40), features)
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(first[row, :length], second[row, :length])


def test_image_features_go_to_the_image_tokens_in_order(model, rows):
    tokens, _, features = rows
    merged = model._merge_image(tokens, features)
    projected = model.projector(features)
    for row in range(2):
        place = 0
        for column, token in enumerate(np.asarray(tokens[row])):
            if token == IMAGE:
                np.testing.assert_array_equal(merged[row, column], projected[row, place])
                place += 1
            else:
                np.testing.assert_array_equal(merged[row, column], model.embed.table[...][token])
        assert place == 4


def test_remat_changes_memory_not_gradients(model, rows):
    tokens, _, features = rows

    def loss(features, policy):
        return jnp.square(model.hidden(tokens, features, policy)).sum()

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    np.testing.assert_allclose(gradient(features, policy), gradient(features, None), rtol=1e-5, atol=1e-6)


def test_rotary_is_a_rotation_by_position():
    cosine, sine = rotary(jnp.array([[0, 3]]), 4, 100.0)
    np.testing.assert_allclose(cosine[0, 0], [[1, 1]])
    np.testing.assert_allclose(cosine[0, 1, 0], np.cos([3.0, 0.3]), rtol=1e-6)
    np.testing.assert_allclose(sine[0, 1, 0], np.sin([3.0, 0.3]), rtol=1e-6)
