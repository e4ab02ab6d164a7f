"""Arithmetic of both forms against transformers' BLIP-2 and LLaMA, and the oracle, on random models."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig, Blip2VisionModel

from sare_jax.inference.generate import generate
from sare_jax.models.families import open_source
from sare_jax.models.interface import LoadedModel
from sare_jax.models.load import load_model
from sare_jax.models.minigpt4.modeling import MiniGpt4
from tests.models.minigpt4 import oracle
from tests.models.minigpt4.tiny import SHAPES, Written, changed, write_minigpt4

TOLERANCE = 2e-5
STEPS = 12


def relative(ours, theirs) -> float:
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


class Pair(NamedTuple):
    """A model in torch, and ours as loaded from its files, with compiled methods."""

    theirs: Written
    loaded: LoadedModel
    encode: Callable
    logits: Callable


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory) -> Pair:
    written = write_minigpt4(tmp_path_factory.mktemp(request.param), request.param)
    loaded = load_model(
        open_source(written.settings.folder, written.settings), dtype=jnp.float32, max_trainable=0.9
    )

    @jax.jit
    def encode(pixels):
        model = loaded.merge(loaded.params, loaded.frozen)
        features = model.encode_images(pixels)
        return features, model.project(features)

    @jax.jit
    def logits(params, tokens, features):
        model = loaded.merge(params, loaded.frozen)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        return model.logits(model.read(tokens, model.project(features), positions=positions))

    return Pair(written, loaded, encode, logits)


def images(pair: Pair, count: int = 3) -> tuple[np.ndarray, torch.Tensor]:
    side = pair.loaded.config.vision.image_size
    pixels = np.random.default_rng(0).normal(size=(count, side, side, 3)).astype(np.float32)
    return pixels, torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


def prompt(pair: Pair) -> list[int]:
    """Ids with the image's slots in the middle."""
    config = pair.loaded.config
    text = np.random.default_rng(1).integers(260, 400, 7).tolist()
    return [1, *text[:3], *[config.image_token_id] * config.num_image_tokens, *text[3:]]


def blip2_features(pair: Pair, pixels: torch.Tensor) -> torch.Tensor:
    """What `llama_proj` reads, by transformers' classes with renamed tensors."""
    config, tensors = pair.loaded.config, pair.theirs.tensors
    vision = config.vision
    tower = Blip2VisionModel(
        Blip2VisionConfig(
            hidden_size=vision.width,
            intermediate_size=vision.mlp,
            num_hidden_layers=vision.num_layers,
            num_attention_heads=vision.num_heads,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
        )
    ).eval()
    tower.post_layernorm.eps = 1e-5
    missing = tower.load_state_dict(blip2_tower(tensors, vision.width), strict=True)
    assert not missing.missing_keys
    with torch.no_grad():
        image = tower(pixels).last_hidden_state
    if config.qformer is None:
        return image[:, 1:].reshape(len(image), config.num_image_tokens, config.feature_width)
    bert = config.qformer
    qformer = Blip2QFormerModel(
        Blip2QFormerConfig(
            hidden_size=bert.width,
            intermediate_size=bert.mlp,
            num_hidden_layers=bert.num_layers,
            num_attention_heads=bert.num_heads,
            encoder_hidden_size=vision.width,
            cross_attention_frequency=2,
        )
    ).eval()
    qformer.load_state_dict(blip2_qformer(tensors), strict=True)
    queries = tensors["query_tokens"].expand(len(image), -1, -1)
    with torch.no_grad():
        return qformer(query_embeds=queries, encoder_hidden_states=image).last_hidden_state


def blip2_tower(tensors, width: int) -> dict[str, torch.Tensor]:
    renamed = {
        "visual_encoder.cls_token": "embeddings.class_embedding",
        "visual_encoder.pos_embed": "embeddings.position_embedding",
        "visual_encoder.patch_embed.proj.": "embeddings.patch_embedding.",
        "visual_encoder.blocks.": "encoder.layers.",
        "ln_vision.": "post_layernorm.",
        ".norm1.": ".layer_norm1.",
        ".norm2.": ".layer_norm2.",
        ".attn.proj.": ".self_attn.projection.",
        ".attn.qkv.": ".self_attn.qkv.",
    }
    state = {"post_layernorm.weight": torch.ones(width), "post_layernorm.bias": torch.zeros(width)}
    for name, tensor in tensors.items():
        if not name.startswith(("visual_encoder.", "ln_vision.")) or name.endswith("v_bias"):
            continue
        if name.endswith("q_bias"):
            v_bias = tensors[name.replace("q_bias", "v_bias")]
            tensor = torch.cat([tensor, torch.zeros_like(tensor), v_bias])
            name = name.replace("q_bias", "qkv.bias")
        for theirs, other in renamed.items():
            name = name.replace(theirs, other)
        state[name] = tensor
    return state


def blip2_qformer(tensors) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("Qformer.bert.")
        .replace("embeddings.LayerNorm.", "layernorm.")
        .replace("attention.self.", "attention.attention."): tensor
        for name, tensor in tensors.items()
        if name.startswith("Qformer.bert.")
    }


def test_features_and_projection_are_those_of_blip2(pair):
    pixels, theirs = images(pair)
    reference = blip2_features(pair, theirs)
    features, embeds = pair.encode(pixels)
    assert relative(features, reference) <= TOLERANCE
    weight, bias = (pair.theirs.tensors[f"llama_proj.{leaf}"] for leaf in ("weight", "bias"))
    assert relative(embeds, torch.nn.functional.linear(reference, weight, bias)) <= TOLERANCE


def test_features_and_projection_are_those_of_the_oracle(pair):
    pixels, theirs = images(pair)
    features, embeds = pair.encode(pixels)
    written = pair.theirs
    assert relative(features, oracle.image_features(written.tensors, theirs, written.towers)) <= TOLERANCE
    assert relative(embeds, oracle.image_embeds(written.tensors, theirs, written.towers)) <= TOLERANCE


def test_logits_and_greedy_ids_are_those_of_transformers(pair):
    pixels, theirs = images(pair, 1)
    ids, written, loaded = prompt(pair), pair.theirs, pair.loaded
    image, config = loaded.config.image_token_id, loaded.config
    embeds = oracle.embeddings(written.tensors, written.llama, ids, image, theirs, written.towers)
    features, _ = pair.encode(np.repeat(pixels, 3, axis=0))
    with torch.no_grad():
        reference = written.llama(inputs_embeds=embeds).logits
    assert relative(pair.logits(loaded.params, np.array([ids]), features[:1]), reference) <= TOLERANCE
    made = generate(
        loaded.graphdef,
        loaded.params,
        loaded.frozen,
        np.array([ids], np.int32),
        np.array([len(ids)], np.int32),
        features[:1],
        max_new_tokens=STEPS,
        end_ids=(2,),
        pad_id=0,
        allowed=np.arange(config.text.vocab_size) >= 0,
    )
    expected = oracle.greedy(written.llama, embeds, STEPS, 2)
    assert len(set(expected)) > 1
    assert np.asarray(made.ids)[0, : int(made.counts[0])].tolist() == expected


@pytest.mark.parametrize("pair", ["llama2_norm", "vicuna"], indirect=True)
def test_gradient_of_the_projection(pair):
    """The gradient that unlearning follows, against autograd's."""
    pixels, theirs = images(pair, 1)
    ids, written, image = prompt(pair), pair.theirs, pair.loaded.config.image_token_id
    slots = torch.tensor(ids) == image
    weight, bias = (
        written.tensors[f"llama_proj.{leaf}"].clone().requires_grad_() for leaf in ("weight", "bias")
    )
    with torch.no_grad():
        features = oracle.image_features(written.tensors, theirs, written.towers)[0]
    words = written.llama.get_input_embeddings()(torch.where(slots, 0, torch.tensor(ids)))
    embeds = words.detach().index_put(
        (slots.nonzero()[:, 0],), torch.nn.functional.linear(features, weight, bias)
    )
    behind = torch.tensor(ids[-4:])
    logits = written.llama(inputs_embeds=embeds[None]).logits[0, -5:-1]
    torch.nn.functional.cross_entropy(logits, behind).backward()
    ours_features = pair.encode(np.repeat(pixels, 3, axis=0))[0][:1]

    def loss(params):
        log_probs = jax.nn.log_softmax(pair.logits(params, np.array([ids]), ours_features)[0, -5:-1])
        return -jnp.take_along_axis(log_probs, jnp.array(ids[-4:])[:, None], axis=1).mean()

    ours = jax.jit(jax.grad(loss))(pair.loaded.params)["llama_proj"]
    assert relative(ours["kernel"], weight.grad.T) <= TOLERANCE
    assert relative(ours["bias"], bias.grad) <= TOLERANCE


@pytest.mark.parametrize("pair", ["llama2_norm", "vicuna"], indirect=True)
def test_each_changed_tensor_is_seen(pair):
    """The comparison has to be able to fail, whichever tensor is turned around."""
    pixels, theirs = images(pair)
    _, embeds = pair.encode(pixels)
    for name in pair.theirs.tensors:
        tensors = changed(pair.theirs.tensors, name, lambda tensor: tensor.flip(-1))
        wrong = relative(embeds, oracle.image_embeds(tensors, theirs, pair.theirs.towers))
        if name.endswith(".key.bias"):
            assert wrong <= TOLERANCE, name  # it moves all weights of a query alike, and so none
        else:
            assert wrong > 5 * TOLERANCE, name


def heads_first(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """A fused projection read as [heads, 3, size] instead of [3, heads, size]."""
    return tensor.reshape(heads, 3, -1, tensor.shape[-1]).transpose(0, 1).reshape(tensor.shape)


@pytest.mark.parametrize("pair", ["llama2", "vicuna"], indirect=True)
@pytest.mark.parametrize("slip", ["order", "key_bias", "gelu", "final_norm", "class_token", "squares"])
def test_usual_slips_are_seen(pair, slip, monkeypatch):
    config, written = pair.loaded.config, pair.theirs
    pixels, theirs = images(pair)
    features, _ = pair.encode(pixels)
    tensors, eva = written.tensors, oracle.eva
    if slip == "order":
        for number in range(config.vision.num_layers):
            turn = functools.partial(heads_first, heads=config.vision.num_heads)
            tensors = changed(tensors, f"visual_encoder.blocks.{number}.attn.qkv.weight", turn)
    if slip == "key_bias":
        # As if the second bias were the keys': one of theirs moves all weights of a query alike, so none.
        for number in range(config.vision.num_layers):
            tensors = changed(tensors, f"visual_encoder.blocks.{number}.attn.v_bias", torch.zeros_like)
    if slip == "gelu":
        tanh = functools.partial(torch.nn.functional.gelu, approximate="tanh")
        monkeypatch.setattr(oracle.functional, "gelu", tanh)
    if slip == "final_norm":
        norm = torch.nn.LayerNorm(config.vision.width)
        torch.nn.init.normal_(norm.weight)
        monkeypatch.setattr(oracle, "eva", lambda *given: norm(eva(*given)))
    if slip in ("class_token", "squares"):
        if config.qformer is not None:
            pytest.skip("the Q-Former reads all tokens in any order")
        side = config.vision.image_size // config.vision.patch_size
        image = oracle.vision_norm(tensors, eva(tensors, theirs, written.towers.heads))
        if slip == "class_token":
            wrong = image[:, :-1].reshape(features.shape)
        else:
            squares = image[:, 1:].reshape(len(image), side // 2, 2, side // 2, 2, -1)
            wrong = squares.transpose(2, 3).reshape(features.shape)
    else:
        wrong = oracle.image_features(tensors, theirs, written.towers)
    assert relative(features, wrong) > 5 * TOLERANCE


@pytest.mark.parametrize("pair", ["vicuna", "vicuna_wide"], indirect=True)
@pytest.mark.parametrize("slip", ["every_layer", "odd_layers", "first_layer"])
def test_layers_that_look_at_the_image_are_every_second_from_the_first_on(pair, slip, monkeypatch):
    layers, written = pair.loaded.config.qformer.num_layers, pair.theirs
    looking = {
        "every_layer": range(layers),
        "odd_layers": range(1, layers, 2),
        "first_layer": range(1),
    }[slip]
    if slip == "first_layer" and layers == 2:
        pytest.skip("the first layer alone is every second of two")
    prefix, tensors = "Qformer.bert.encoder.layer.", dict(written.tensors)
    for name, tensor in written.tensors.items():
        if ".crossattention." in name:
            number, _, rest = name.removeprefix(prefix).partition(".")
            tensors[f"{prefix}{int(number) + 1}.{rest}"] = tensor
    pixels, theirs = images(pair)
    features, _ = pair.encode(pixels)
    given = oracle.image_features(tensors, theirs, written.towers)
    assert relative(features, given) <= TOLERANCE  # the tensors beside do nothing as long as nobody looks
    monkeypatch.setattr(oracle, "looks", looking.__contains__)
    assert relative(features, oracle.image_features(tensors, theirs, written.towers)) > 10 * TOLERANCE


@pytest.mark.parametrize("pair", ["llama2_norm"], indirect=True)
def test_epsilon_of_the_norm_behind_the_tower(pair):
    """On values so small that it matters."""
    model = pair.loaded.merge(pair.loaded.params, pair.loaded.frozen)
    assert isinstance(model, MiniGpt4)
    x = 1e-3 * np.random.default_rng(0).normal(size=(4, pair.loaded.config.vision.width)).astype(np.float32)
    reference = oracle.vision_norm(pair.theirs.tensors, torch.from_numpy(x))
    assert relative(model.vision_norm(x), reference) <= TOLERANCE


@pytest.mark.parametrize("name", ["llama2", "vicuna"])
def test_in_16_bits_the_tower_is_float16_and_its_norms_float32(name, tmp_path):
    written = write_minigpt4(tmp_path, name, dtype=torch.float16)
    source = open_source(written.settings.folder, written.settings)
    loaded = load_model(source, dtype=jnp.bfloat16, max_trainable=0.9)
    dtypes = {entry.path: entry.beside or "bfloat16" for entry in source.family.entries(source.config)}
    tree = jax.tree_util.tree_flatten_with_path(loaded.frozen)[0]
    kept = {"/".join(key.key for key in path): str(leaf.dtype) for path, leaf in tree}
    assert kept == {path: dtype for path, dtype in dtypes.items() if not path.startswith("llama_proj/")}
    assert {kept["vision_tower/layers/fc_1/kernel"], kept["vision_norm/scale"]} == {"float16", "float32"}
    np.testing.assert_array_equal(
        np.asarray(loaded.frozen["vision_tower"]["layers"]["fc_2"]["kernel"][1], np.float32),
        written.tensors["visual_encoder.blocks.1.mlp.fc2.weight"].numpy().T,
    )
    side = source.config.vision.image_size
    pixels = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    model = loaded.merge(loaded.params, loaded.frozen)
    features = jax.jit(model.encode_images)(pixels)
    assert features.dtype == jnp.float16
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    assert relative(features, oracle.image_features(written.tensors, images, written.towers)) < 0.02
    assert model.project(features).dtype == jnp.float32
