"""Our arithmetic against transformers', on random tiny models that transformers itself saved."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from sare_jax.models.interface import LoadedModel
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.load import load_model
from tests.tiny_llava import SHAPES, image_token_id, write_llava

TOLERANCE = 1e-4


def relative(ours, theirs) -> float:
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


class Pair(NamedTuple):
    """A torch model, and ours as loaded from the folder that it was saved to, with compiled methods."""

    theirs: LlavaForConditionalGeneration
    loaded: LoadedModel
    encode: Callable
    logits: Callable


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp(request.param)
    theirs = write_llava(folder, request.param)
    loaded = load_model(folder, dtype=jnp.float32)

    @jax.jit
    def encode(pixels):
        model = loaded.merge(loaded.params, loaded.frozen)
        features = model.encode_images(pixels)
        return features, model.projector(features)

    @jax.jit
    def logits(params, tokens, features):
        model = loaded.merge(params, loaded.frozen)
        return model.logits(model.hidden(tokens, features))

    return Pair(theirs, loaded, encode, logits)


def batch(config, rows: int, seed: int = 0):
    """Prompts with one image each, at different places and of different lengths, right-padded; pixels."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(260, 400, 3 + 2 * row).tolist() for row in range(rows)]
    places = [image_token_id()] * config.num_image_tokens
    prompts = [[1, *text[: row + 1], *places, *text[row + 1 :]] for row, text in enumerate(texts)]
    lengths = np.array([len(prompt) for prompt in prompts])
    tokens = np.zeros((rows, lengths.max() + 2), np.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    side = config.vision.image_size
    return tokens, lengths, rng.normal(size=(rows, side, side, 3)).astype(np.float32)


def to_torch(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


def test_vision_features_and_projector(pair):
    config = pair.loaded.config
    _, _, pixels = batch(config, 3)
    layer = pair.theirs.config.vision_feature_layer
    with torch.no_grad():
        tower = pair.theirs.model.vision_tower(to_torch(pixels), output_hidden_states=True)
        reference = (
            tower.hidden_states[layer] if config.keep_class_token else tower.hidden_states[layer][:, 1:]
        )
        projected = pair.theirs.model.multi_modal_projector(reference)
    features, ours = pair.encode(pixels)
    assert relative(features, reference) <= TOLERANCE
    assert relative(ours, projected) <= TOLERANCE


def test_logits_with_images_and_right_padding(pair):
    tokens, lengths, pixels = batch(pair.loaded.config, 3)
    mask = torch.from_numpy((np.arange(tokens.shape[1]) < lengths[:, None]).astype(np.int64))
    with torch.no_grad():
        reference = pair.theirs(
            input_ids=torch.from_numpy(tokens), attention_mask=mask, pixel_values=to_torch(pixels)
        ).logits
    features, _ = pair.encode(pixels)
    logits = pair.logits(pair.loaded.params, tokens, features)
    assert logits.dtype == jnp.float32
    for row, length in enumerate(lengths):  # behind a row's end theirs depends on the mask
        assert relative(logits[row, :length], reference[row, :length]) <= TOLERANCE


def test_activations_behind_each_layer(pair):
    tokens, lengths, pixels = batch(pair.loaded.config, 3)
    with torch.no_grad():
        reference = pair.theirs(
            input_ids=torch.from_numpy(tokens), pixel_values=to_torch(pixels), output_hidden_states=True
        ).hidden_states
    _, image_embeds = pair.encode(pixels)
    model = pair.loaded.merge(pair.loaded.params, pair.loaded.frozen)
    positions = np.stack([lengths - 3, lengths - 1], axis=1)
    # The last of theirs has gone through the final norm, which is no layer.
    for depth in range(1, len(reference) - 1):
        ours = model.read(tokens, image_embeds, positions=positions, depth=depth)
        theirs = torch.take_along_dim(reference[depth], torch.from_numpy(positions)[..., None], dim=1)
        assert relative(ours, theirs) <= TOLERANCE


def test_logits_equal_those_of_single_images_without_padding(pair):
    tokens, lengths, pixels = batch(pair.loaded.config, 3)
    features, _ = pair.encode(pixels)
    logits = pair.logits(pair.loaded.params, tokens, features)
    for row, length in enumerate(lengths):
        ids, image = torch.from_numpy(tokens[row : row + 1, :length]), to_torch(pixels[row : row + 1])
        with torch.no_grad():
            reference = pair.theirs(input_ids=ids, pixel_values=image).logits
        assert relative(logits[row : row + 1, :length], reference) <= TOLERANCE


def test_logits_equal_those_of_left_padded_rows(pair):
    """Hugging Face pads on the left to generate; a token's logits are the same."""
    tokens, lengths, pixels = batch(pair.loaded.config, 3)
    width = tokens.shape[1]
    left = np.stack([np.roll(row, width - length) for row, length in zip(tokens, lengths, strict=True)])
    mask = torch.from_numpy((np.arange(width) >= width - lengths[:, None]).astype(np.int64))
    with torch.no_grad():
        reference = pair.theirs(
            input_ids=torch.from_numpy(left), attention_mask=mask, pixel_values=to_torch(pixels)
        ).logits
    features, _ = pair.encode(pixels)
    logits = pair.logits(pair.loaded.params, tokens, features)
    for row, length in enumerate(lengths):
        assert relative(logits[row, :length], reference[row, width - length :]) <= TOLERANCE


def test_tk_07_logits_with_several_images_in_a_row(pair):
    """Rows with two images, one and none, the shorter ones padded."""
    config = pair.loaded.config
    places, pad = [image_token_id()] * config.num_image_tokens, 0
    rows = [
        [1, *places, 300, 301, *places, 302],
        [1, 303, *places, 304],
        [1, 305, 306],
    ]
    lengths = np.array([len(row) for row in rows])
    tokens = np.array([row + [pad] * (lengths.max() - len(row)) for row in rows])
    mask = torch.from_numpy((np.arange(tokens.shape[1]) < lengths[:, None]).astype(np.int64))
    _, _, pixels = batch(config, 3)
    with torch.no_grad():
        reference = pair.theirs(
            input_ids=torch.from_numpy(tokens), attention_mask=mask, pixel_values=to_torch(pixels)
        ).logits
    features = np.asarray(pair.encode(pixels)[0])
    unused = np.full_like(features[0], np.nan)
    by_row = np.stack(
        [np.concatenate(two) for two in (features[:2], (features[2], unused), (unused, unused))]
    )
    logits = pair.logits(pair.loaded.params, tokens, by_row)
    for row, length in enumerate(lengths):
        assert relative(logits[row, :length], reference[row, :length]) <= TOLERANCE


def test_tk_06_features_of_no_whole_image_are_refused(pair):
    config = pair.loaded.config
    count = config.num_image_tokens
    features = jnp.zeros((1, count + 1, config.vision.width))
    with pytest.raises(
        ValueError, match=rf"{count + 1} image features a row, need {count} an image \(image_size"
    ):
        pair.logits(pair.loaded.params, jnp.zeros((1, 4), int), features)


def test_logits_where_the_image_token_lies_outside_the_table(tmp_path):
    """As in the original form with its 32000 rows: those of the hub's 32064 change nothing else."""
    theirs = write_llava(tmp_path)
    rows = image_token_id()
    assert rows < theirs.config.text_config.vocab_size
    tokens, lengths, pixels = batch(LlavaConfig.from_hf(theirs.config.to_dict()), 2)
    with torch.no_grad():
        reference = theirs(input_ids=torch.from_numpy(tokens), pixel_values=to_torch(pixels)).logits
    theirs.resize_token_embeddings(rows)
    theirs.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, dtype=jnp.float32)
    assert loaded.config.text.vocab_size == rows == loaded.config.image_token_id
    model = loaded.merge(loaded.params, loaded.frozen)
    logits = model.logits(model.hidden(tokens, model.encode_images(pixels)))
    for row, length in enumerate(lengths):
        assert relative(logits[row, :length], reference[row, :length, :rows]) <= TOLERANCE


def test_logits_of_text_alone(pair):
    tokens, _, pixels = batch(pair.loaded.config, 3)
    text = np.random.default_rng(1).integers(3, 250, tokens.shape)
    with torch.no_grad():
        reference = pair.theirs(input_ids=torch.from_numpy(text)).logits
    # A batch may mix rows with and without an image: a row without one leaves its features unused.
    features, _ = pair.encode(pixels)
    assert relative(pair.logits(pair.loaded.params, text, features), reference) <= TOLERANCE


@pytest.mark.parametrize("pair", ["plain"], indirect=True)
def test_logits_without_any_features(pair):
    text = np.random.default_rng(1).integers(3, 250, (2, 9))
    with torch.no_grad():
        reference = pair.theirs(input_ids=torch.from_numpy(text)).logits
    assert relative(pair.logits(pair.loaded.params, text, None), reference) <= TOLERANCE


@pytest.mark.parametrize("pair", ["grouped", "tied"], indirect=True)
def test_projector_gradient(pair):
    """The gradient that unlearning follows, against autograd's."""
    tokens, _, pixels = batch(pair.loaded.config, 1)
    pair.theirs.zero_grad()
    logits = pair.theirs(input_ids=torch.from_numpy(tokens), pixel_values=to_torch(pixels)).logits
    torch.nn.functional.cross_entropy(logits[0, :-1], torch.from_numpy(tokens[0, 1:])).backward()
    features, _ = pair.encode(np.repeat(pixels, 3, axis=0))

    def loss(params):
        log_probs = jax.nn.log_softmax(pair.logits(params, tokens, features[:1])[0, :-1])
        return -jnp.take_along_axis(log_probs, tokens[0, 1:, None], axis=1).mean()

    ours = jax.jit(jax.grad(loss))(pair.loaded.params)["projector"]
    theirs = pair.theirs.model.multi_modal_projector
    assert relative(ours["linear_1"]["kernel"], theirs.linear_1.weight.grad.T) <= TOLERANCE
    assert relative(ours["linear_2"]["bias"], theirs.linear_2.bias.grad) <= TOLERANCE


@pytest.mark.parametrize(
    "name",
    [
        "vision_tower.encoder.layers.0.mlp.fc1.bias",
        "vision_tower.encoder.layers.1.self_attn.q_proj.weight",
        "multi_modal_projector.linear_2.weight",
        "language_model.layers.0.input_layernorm.weight",
        "language_model.layers.1.self_attn.v_proj.weight",
    ],
)
def test_one_changed_tensor_is_seen(pair, name):
    """The comparison has to be able to fail: one tensor changed by a tenth."""
    tokens, _, pixels = batch(pair.loaded.config, 3)
    weight = pair.theirs.model.get_parameter(name)
    with torch.no_grad():
        kept = weight.clone()
        weight.mul_(1.1)
        reference = pair.theirs(input_ids=torch.from_numpy(tokens), pixel_values=to_torch(pixels)).logits
        weight.copy_(kept)
    features, _ = pair.encode(pixels)
    assert relative(pair.logits(pair.loaded.params, tokens, features), reference) > 10 * TOLERANCE


@pytest.mark.parametrize("pair", ["grouped"], indirect=True)
def test_half_precision_weights_are_computed_in_half_precision(pair):
    tokens, _, pixels = batch(pair.loaded.config, 3)
    loaded = load_model(pair.loaded.folder, dtype=jnp.bfloat16)
    model = loaded.merge(loaded.params, loaded.frozen)
    features = jax.jit(model.encode_images)(pixels)
    hidden = jax.jit(model.hidden)(tokens, features)
    assert features.dtype == hidden.dtype == jnp.bfloat16
    assert model.projector(features).dtype == jnp.float32
    exact = np.asarray(pair.logits(pair.loaded.params, tokens, pair.encode(pixels)[0]))
    logits = np.asarray(model.logits(hidden))
    assert logits.dtype == np.float32
    assert np.linalg.norm(logits - exact) < 0.1 * np.linalg.norm(exact)
