"""mPLUG-Owl against the oracle in plain torch and transformers' LLaMA, on random weights of four shapes."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sare_jax.inference.generate import generate
from sare_jax.models.families import open_source
from sare_jax.models.load import load_model
from sare_jax.models.shared import partition
from sare_jax.settings import ModelConfig
from tests import tiny_owl
from tests.models.mplug_owl import oracle

TEXT = "Human: What is this?"


@pytest.fixture(scope="module", params=list(tiny_owl.SHAPES))
def pair(request, tmp_path_factory):
    """One model in both forms, two pictures, and what the oracle makes of them."""
    folder = tmp_path_factory.mktemp(request.param)
    tensors = tiny_owl.write_owl(folder, request.param)
    raw = tiny_owl.owl_config(request.param)
    loaded = load_model(folder, dtype=jnp.float32)
    side = raw["vision_config"]["image_size"]
    pixels = np.random.default_rng(1).standard_normal((2, side, side, 3)).astype(np.float32)
    vision, own = (
        {"heads": raw[key]["num_attention_heads"], "layers": raw[key]["num_hidden_layers"]}
        for key in ("vision_config", "visual_abstractor_config")
    )
    with torch.no_grad():
        tokens = oracle.vision(tensors, torch.from_numpy(pixels).permute(0, 3, 1, 2), **vision)
        image = oracle.abstractor(tensors, tokens, **own)
    model = loaded.merge(loaded.params, loaded.frozen)
    return SimpleNamespace(
        loaded=loaded,
        model=model,
        tensors=tensors,
        raw=raw,
        pixels=pixels,
        tokens=tokens,
        image=image,
        own=own,
    )


def close(ours, theirs: torch.Tensor, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


def rows(pair) -> np.ndarray:
    """Two rows, of one image each, in different places."""
    slots = [pair.loaded.config.image_token_id] * pair.loaded.config.num_image_tokens
    text = list(np.random.default_rng(2).integers(3, 400, 9))
    return np.array([[1, *text[:3], *slots, *text[3:]], [1, *text[:5], *slots, *text[5:]]])


def test_tower_keeps_all_tokens(pair):
    features = jax.jit(pair.model.encode_images)(pair.pixels)
    assert (
        features.shape[1] == pair.loaded.shape.num_image_features == pair.loaded.config.vision.num_patches + 1
    )
    close(features, pair.tokens, 1e-4)


def test_abstractor_and_end_token(pair):
    embeds = jax.jit(pair.model.project)(pair.tokens.numpy())
    assert embeds.shape[1] == pair.loaded.shape.num_image_tokens == pair.raw["num_query_tokens"] + 1
    close(embeds, pair.image, 1e-4)


def test_several_images_of_a_row_are_projected_apart(pair):
    joined = pair.tokens.numpy().reshape(1, 1, -1, pair.tokens.shape[-1])
    embeds = pair.model.project(joined)
    close(embeds[0, 0], pair.image.flatten(0, 1), 1e-4)
    with pytest.raises(ValueError, match=r"image features a row, need \d+ an image"):
        pair.model.project(joined[:, :, 1:])


def test_logits_of_whole_rows(pair):
    ids, image = rows(pair), pair.model.project(pair.tokens.numpy())
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    logits = pair.model.logits(pair.model.read(jnp.asarray(ids), image, positions=positions))
    llama = tiny_owl.torch_llama(pair.tensors, pair.raw)
    for row in range(2):
        slot = pair.loaded.config.image_token_id
        words = oracle.embeddings(llama, torch.from_numpy(ids[row]), pair.image[row : row + 1], slot)
        with torch.no_grad():
            reference = llama(inputs_embeds=words).logits[0]
        error = np.abs(np.asarray(logits[row]) - reference.numpy()).max() / np.abs(reference.numpy()).max()
        assert error <= 1e-4


def test_greedy_text_is_equal(pair):
    loaded, source = pair.loaded, open_source(pair.loaded.folder)
    prompter = loaded.family.prompter(source, ModelConfig())
    prompt = prompter.prompt(TEXT, loaded.shape.num_image_tokens)
    llama = tiny_owl.torch_llama(pair.tensors, pair.raw)
    made = greedy(pair, prompt, prompter)
    for row in range(2):
        slot = loaded.config.image_token_id
        words = oracle.embeddings(llama, torch.tensor(prompt), pair.image[row : row + 1], slot)
        with torch.no_grad():
            reference = oracle.greedy(llama, words, 12, prompter.eos_id)
        assert made[row] == reference
        assert len(set(reference)) > 2
    assert made[0] != made[1]


def greedy(pair, prompt, prompter) -> list[list[int]]:
    loaded = pair.loaded
    made = generate(
        loaded.graphdef,
        loaded.params,
        loaded.frozen,
        jnp.array([prompt, prompt]),
        jnp.full(2, len(prompt)),
        jnp.asarray(pair.tokens.numpy()),
        max_new_tokens=12,
        end_ids=(prompter.eos_id,),
        pad_id=prompter.pad_id,
    )
    rows = np.asarray(made.ids).tolist()
    return [row[: row.index(prompter.eos_id)] if prompter.eos_id in row else row for row in rows]


def test_gradients_of_everything_that_is_tuned(pair):
    """Of one sum of logits, by torch's autograd through oracle and transformers."""
    tuned = {
        name: tensor.clone().requires_grad_(name.startswith(("abstractor.", "query_tokens")))
        for name, tensor in pair.tensors.items()
    }
    ids = rows(pair)[:1]
    llama = tiny_owl.torch_llama(pair.tensors, pair.raw).requires_grad_(False)
    image = oracle.abstractor(tuned, pair.tokens[:1], **pair.own)
    words = oracle.embeddings(llama, torch.from_numpy(ids[0]), image, pair.loaded.config.image_token_id)
    llama(inputs_embeds=words).logits.log_softmax(-1)[..., 7].sum().backward()

    def loss(params):
        model = pair.loaded.merge(params, pair.loaded.frozen)
        positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        hidden = model.read(jnp.asarray(ids), model.project(pair.tokens[:1].numpy()), positions=positions)
        return jax.nn.log_softmax(model.logits(hidden))[..., 7].sum()

    grads = partition.flatten(jax.jit(jax.grad(loss))(pair.loaded.params))
    checked = set()
    for entry in pair.loaded.family.entries(pair.loaded.config):
        if entry.path not in grads:
            continue
        own = np.asarray(grads[entry.path])
        for number, name in enumerate(entry.names()):
            layer = own[number] if entry.layers else own
            theirs = tuned[name].grad.numpy().transpose(entry.axes)
            assert np.abs(layer - theirs).max() <= 2e-4 * max(np.abs(theirs).max(), 1), name
            checked.add(name)
    assert checked == {name for name, tensor in tuned.items() if tensor.requires_grad}


# Slips that the comparisons above would catch: text of the oracle, and what stands there instead.
MUTATIONS = {
    "query, key, value before heads": (
        "heads, 3, size).permute(3, 0, 2, 1, 4)",
        "3, heads, size).permute(2, 0, 3, 1, 4)",
    ),
    "exact GELU": ("inner * torch.sigmoid(1.702 * inner)", "functional.gelu(inner)"),
    "no last norm": ('return norm(w, "vision_model.post_layernorm", x, eps)', "return x"),
    "residual from the query": ("x = h + linear", "x = x + linear"),
    "another epsilon": ('.norm1", x, 1e-5)', '.norm1", x, 1e-6)'),
    "keys of the image alone": (
        'both = torch.cat([h, norm(w, f"{layer}.normk", image, 1e-5)], dim=1)',
        'both = norm(w, f"{layer}.normk", image, 1e-5)',
    ),
    "no norm inside the MLP": ('norm(w, f"{mlp}.ffn_ln", inner, 1e-6)', "inner"),
    "gate and up exchanged": (
        'functional.silu(linear(w, f"{mlp}.w1", z)) * linear(w, f"{mlp}.w3", z)',
        'functional.silu(linear(w, f"{mlp}.w3", z)) * linear(w, f"{mlp}.w1", z)',
    ),
    "end token first": (
        'torch.cat([x, w["abstractor.vit_eos"].expand(len(x), -1, -1)], dim=1)',
        'torch.cat([w["abstractor.vit_eos"].expand(len(x), -1, -1), x], dim=1)',
    ),
    "no class token": ("eps)\n\n\ndef abstractor", "eps)[:, 1:]\n\n\ndef abstractor"),
}


@pytest.mark.parametrize("slip", MUTATIONS)
def test_slips_would_be_seen(pair, slip):
    source, (old, new) = Path(oracle.__file__).read_text(), MUTATIONS[slip]
    assert source.count(old) == 1
    changed: dict = {}
    exec(compile(source.replace(old, new), "changed oracle", "exec"), changed)
    vision = pair.raw["vision_config"]
    sizes = {"heads": vision["num_attention_heads"], "layers": vision["num_hidden_layers"]}
    with torch.no_grad():
        tokens = changed["vision"](pair.tensors, torch.from_numpy(pair.pixels).permute(0, 3, 1, 2), **sizes)
        image = changed["abstractor"](pair.tensors, tokens, **pair.own)
    assert (image - pair.image).abs().max() > 1e-3 * pair.image.abs().max()
