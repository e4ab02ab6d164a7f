"""The original form of LLaVA-1.5 and ShareGPT4V against transformers' logits on the same tensors."""

import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import CLIPVisionModel

from sare_jax.errors import UserError
from sare_jax.models.interface import merge
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model
from sare_jax.models.shared.partition import flatten
from tests.tiny_llava import SHAPES, image_token_id, write_llava
from tests.tiny_original import (
    SHARE_TOWER_NAME,
    TOWER_NAME,
    edit,
    edit_config,
    projector_tensors,
    save,
    text_side_tensors,
    write_original,
    write_sharegpt4v,
)

TOLERANCE = 1e-4  # of a logit, relative to the largest
MODEL, TOWER = "llava", TOWER_NAME


@pytest.fixture
def folder(tmp_path):
    """An original LLaVA whose tensors a test may change, its tower beside it."""
    write_original(tmp_path / MODEL, tmp_path / TOWER)
    return tmp_path / MODEL


@partial(jax.jit, static_argnums=0)
def our_logits(graphdef, params, frozen, tokens, pixels):
    model = merge(graphdef, params, frozen)
    return model.logits(model.hidden(tokens, model.encode_images(pixels)))


def example(config):
    """Two rows with an image each, and pictures."""
    rng, side = np.random.default_rng(0), config.vision.image_size
    tokens = rng.integers(260, 400, (2, config.num_image_tokens + 7))
    tokens[:, 2 : 2 + config.num_image_tokens] = config.image_token_id
    return tokens, rng.normal(size=(2, side, side, 3)).astype(np.float32)


def their_logits(theirs, config, tokens, pixels):
    """transformers' logits; there the image token is a row of the table."""
    is_image = tokens == config.image_token_id
    return theirs(
        input_ids=torch.from_numpy(np.where(is_image, image_token_id(), tokens)),
        pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()),
    ).logits


def relative(ours, reference) -> float:
    assert ours.shape == reference.shape
    return float(np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max())


def difference(loaded, theirs) -> float:
    """Largest difference of a logit from transformers', relative to the largest logit."""
    tokens, pixels = example(loaded.config)
    ours = our_logits(loaded.graphdef, loaded.params, loaded.frozen, tokens, pixels)
    with torch.no_grad():
        return relative(ours, their_logits(theirs, loaded.config, tokens, pixels).numpy())


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_transformers(tmp_path, shape):
    theirs = write_original(tmp_path / MODEL, tmp_path / TOWER, shape)
    loaded = load_model(tmp_path / MODEL, dtype=jnp.float32)
    assert loaded.source.form == "original"
    assert loaded.config.image_token_id == loaded.config.text.vocab_size  # no row of the table
    assert difference(loaded, theirs) <= TOLERANCE


def test_gradients_of_the_projector_equal_transformers(sound):
    """With an image token that is no row of the table, which a gather would turn into NaN."""
    folder, theirs = sound
    loaded = load_model(folder, dtype=jnp.float32)
    tokens, pixels = example(loaded.config)

    @jax.grad
    def ours(params):
        logits = our_logits(loaded.graphdef, params, loaded.frozen, tokens, pixels)[:, -5:-1]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, -4:, None], axis=-1).mean()

    logits = their_logits(theirs, loaded.config, tokens, pixels)[:, -5:-1]
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(tokens[:, -4:].flatten())
    ).backward()
    grads = flatten(ours(loaded.params))
    for name in ("linear_1", "linear_2"):
        reference = getattr(theirs.model.multi_modal_projector, name)
        assert relative(grads[f"projector/{name}/kernel"], reference.weight.grad.numpy().T) <= TOLERANCE
        assert relative(grads[f"projector/{name}/bias"], reference.bias.grad.numpy()) <= TOLERANCE


def test_sharegpt4v_logits_equal_transformers(tmp_path):
    theirs = write_sharegpt4v(tmp_path / "ShareGPT4V-7B", tmp_path / SHARE_TOWER_NAME, weights="bin_shards")
    loaded = load_model(tmp_path / "ShareGPT4V-7B", dtype=jnp.float32)
    stored = {tensor.dtype for name, tensor in loaded.source.tensors.items() if name.endswith("weight")}
    assert stored == {jnp.dtype(jnp.bfloat16)}
    assert difference(loaded, theirs) <= TOLERANCE


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.1.input_layernorm.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.mm_projector.0.bias",
        "model.mm_projector.2.weight",
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.pre_layrnorm.bias",
        "vision_model.encoder.layers.0.self_attn.out_proj.weight",
        "vision_model.encoder.layers.1.mlp.fc2.bias",
    ],
)
def test_one_broken_tensor_fails_the_parity_check(sound, tmp_path, name):
    """Its first axis is rolled by one; everything else is as in the model that passes."""
    folder, theirs = sound
    shutil.copytree(folder, tmp_path / MODEL)
    shutil.copytree(folder.parent / TOWER, tmp_path / TOWER)
    file = tmp_path / (TOWER if name.startswith("vision_model.") else MODEL) / "pytorch_model.bin"
    edit(file, lambda tensors: tensors.update({name: tensors[name].roll(1, 0)}))
    loaded = load_model(open_llava(tmp_path / MODEL, str(tmp_path / TOWER)), dtype=jnp.float32)
    assert difference(loaded, theirs) > 10 * TOLERANCE


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A model that passes the parity check, and transformers' of the same tensors."""
    folder = tmp_path_factory.mktemp("sound")
    theirs = write_original(folder / MODEL, folder / TOWER)
    assert difference(load_model(folder / MODEL, dtype=jnp.float32), theirs) <= TOLERANCE
    return folder / MODEL, theirs


def test_ex_04_every_way_to_store_it_loads_alike(tmp_path):
    """Formats, shards, a tower inside or apart; arrays and content hash are the same."""
    ways = {
        "bin": {},
        "bin_shards": {"weights": "bin_shards", "tower_weights": "safetensors"},
        "safetensors": {"weights": "safetensors", "tower_weights": "bin_shards"},
        "safetensors_shards": {"weights": "safetensors_shards"},
        "inside": {"inside": "tower"},
    }
    hashes, arrays = {}, {}
    for way, settings in ways.items():
        write_original(tmp_path / way, tmp_path / f"{way}_tower", **settings)
        loaded = load_model(tmp_path / way, dtype=jnp.float32)
        hashes[way], arrays[way] = loaded.content_hash, flatten(loaded.params) | flatten(loaded.frozen)
    assert set(hashes.values()) == {hashes["bin"]}
    for way in ways:
        for path, array in arrays[way].items():
            np.testing.assert_array_equal(array, arrays["bin"][path])


def test_content_hash_is_of_model_and_tower(folder, tmp_path):
    def scale(name):
        return lambda tensors: tensors.update({name: tensors[name] * 1.001})

    hashes = [load_model(folder, dtype=jnp.float32).content_hash]
    for file, name in (
        (folder, "model.mm_projector.0.bias"),
        (tmp_path / TOWER, "vision_model.encoder.layers.0.layer_norm1.bias"),
    ):
        edit(file / "pytorch_model.bin", scale(name))
        hashes.append(load_model(folder, dtype=jnp.float32).content_hash)
    assert len(set(hashes)) == 3


def test_the_hubs_form_of_the_same_weights_has_the_same_arrays(folder, tmp_path):
    write_llava(tmp_path / "hub")
    hub = load_model(tmp_path / "hub", dtype=jnp.float32)
    original = load_model(folder, dtype=jnp.float32)
    for path, array in (flatten(hub.params) | flatten(hub.frozen)).items():
        np.testing.assert_array_equal((flatten(original.params) | flatten(original.frozen))[path], array)


def test_a_whole_clip_serves_as_the_tower(tmp_path):
    """OpenAI's folder: config.json with `vision_config`, and a text half that is of no use here."""
    theirs = write_original(tmp_path / MODEL, tmp_path / TOWER)
    edit(tmp_path / TOWER / "pytorch_model.bin", lambda tensors: tensors.update(text_side_tensors()))
    vision = json.loads((tmp_path / TOWER / "config.json").read_text())
    whole = {"model_type": "clip", "architectures": ["CLIPModel"], "vision_config": vision}
    (tmp_path / TOWER / "config.json").write_text(json.dumps(whole))
    assert difference(load_model(tmp_path / MODEL, dtype=jnp.float32), theirs) <= TOLERANCE


def test_a_tower_saved_by_transformers_5_serves_too(tmp_path):
    theirs = write_original(tmp_path / MODEL, tmp_path / TOWER)
    expected = load_model(tmp_path / MODEL, dtype=jnp.float32).content_hash
    tower = CLIPVisionModel(theirs.config.vision_config)
    tower.load_state_dict(theirs.model.vision_tower.state_dict())
    (tmp_path / TOWER / "pytorch_model.bin").unlink()
    tower.save_pretrained(tmp_path / TOWER)
    source = open_llava(tmp_path / MODEL)
    assert source.tensors["vision_tower.vision_model.pre_layrnorm.bias"].name == "pre_layrnorm.bias"
    assert load_model(source, dtype=jnp.float32).content_hash == expected


def test_all_wrong_names_of_both_folders_in_one_error(folder, tmp_path):
    def spoil(tensors):
        del tensors["model.norm.weight"]
        del tensors["lm_head.weight"]
        del tensors["model.mm_projector.2.bias"]
        tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 5)
        tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(96, 48, dtype=torch.int8)
        tensors["multi_modal_projector.linear_1.weight"] = torch.zeros(48, 32)  # a name of the other form

    def spoil_tower(tensors):
        del tensors["vision_model.encoder.layers.1.mlp.fc1.bias"]
        tensors["foo.weight"] = torch.zeros(2)

    edit(folder / "pytorch_model.bin", spoil)
    edit(tmp_path / TOWER / "pytorch_model.bin", spoil_tower)
    with pytest.raises(UserError) as error:
        load_model(folder, dtype=jnp.float32)
    assert str(error.value) == (
        f"{folder} with vision tower {tmp_path / TOWER}: the weights do not fit config.json; missing: "
        "vision_model.encoder.layers.1.mlp.fc1.bias, model.mm_projector.2.bias, model.norm.weight, "
        "lm_head.weight; unexpected: multi_modal_projector.linear_1.weight, foo.weight; mis-shaped: "
        "model.layers.1.mlp.up_proj.weight is [3, 5], need [96, 48]; no weights: "
        "model.layers.0.mlp.up_proj.weight is int8"
    )


def test_ex_05_buffers_are_ignored_by_name_and_nothing_else(folder):
    names = open_llava(folder).tensors
    assert "language_model.model.layers.0.self_attn.rotary_emb.inv_freq" in names
    assert "vision_tower.vision_model.embeddings.position_ids" in names
    load_model(folder, dtype=jnp.float32)
    edit(folder / "pytorch_model.bin", lambda tensors: tensors.update({"foo.weight": torch.zeros(2)}))
    with pytest.raises(UserError, match=r"unexpected: foo\.weight$"):
        load_model(folder, dtype=jnp.float32)


def test_tk_12_rows_of_the_table_have_to_be_the_configs(folder):
    edit_config(folder, vocab_size=500)
    with pytest.raises(UserError, match=r"mis-shaped: model\.embed_tokens\.weight is \[496, 48\], need"):
        load_model(folder, dtype=jnp.float32)


def test_ex_02_a_tied_head_is_one_array_also_where_a_file_has_it_twice(tmp_path):
    theirs = write_original(tmp_path / MODEL, tmp_path / TOWER, "tied")
    once = load_model(tmp_path / MODEL, dtype=jnp.float32)
    file = tmp_path / MODEL / "pytorch_model.bin"
    edit(file, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"]}))
    twice = load_model(tmp_path / MODEL, dtype=jnp.float32)
    assert "head" not in twice.frozen
    assert twice.content_hash == once.content_hash
    assert difference(twice, theirs) <= TOLERANCE
    edit(file, lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"] + 1}))
    with pytest.raises(
        UserError, match=r"tie_word_embeddings, but lm_head\.weight differs from model\.embed"
    ):
        load_model(tmp_path / MODEL, dtype=jnp.float32)


def test_ex_03_index_and_torch_shards_have_to_agree(tmp_path):
    write_original(tmp_path / MODEL, tmp_path / TOWER, weights="bin_shards")
    index = tmp_path / MODEL / "pytorch_model.bin.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.extra.weight"] = "pytorch_model-00002-of-00003.bin"
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"index\.json and the shards disagree about model\.extra\.weight$"):
        open_llava(tmp_path / MODEL)
    (tmp_path / MODEL / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(UserError, match=r"not there: pytorch_model-00002-of-00003\.bin$"):
        open_llava(tmp_path / MODEL)


def test_projector_in_a_file_of_its_own(tmp_path):
    """LLaVA publishes mm_projector.bin beside its shards; it is read where the shards lack the projector."""
    theirs = write_original(tmp_path / MODEL, tmp_path / TOWER)
    weights, apart = tmp_path / MODEL / "pytorch_model.bin", tmp_path / MODEL / "mm_projector.bin"
    projector = projector_tensors(theirs)
    other = {name: tensor + 1 for name, tensor in projector.items()}

    save(apart, other)
    assert difference(load_model(tmp_path / MODEL, dtype=jnp.float32), theirs) <= TOLERANCE

    save(apart, {name: other[name] for name in list(other)[:3]})
    with pytest.raises(UserError, match=r"mm_projector\.bin: .*model\.mm_projector\.2\.bias"):
        open_llava(tmp_path / MODEL)

    save(apart, projector)
    edit(weights, lambda tensors: [tensors.pop(name) for name in projector])
    assert difference(load_model(tmp_path / MODEL, dtype=jnp.float32), theirs) <= TOLERANCE

    apart.unlink()
    with pytest.raises(UserError, match=f"missing: {', '.join(projector)}$"):
        load_model(tmp_path / MODEL, dtype=jnp.float32)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"mm_projector_type": "linear"}, "mm_projector_type"),
        ({"mm_projector_type": None}, "mm_projector_type"),
        ({"mm_vision_select_layer": -9}, "mm_vision_select_layer"),
        ({"mm_vision_select_feature": "cls"}, "mm_vision_select_feature"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end"),
        ({"mm_hidden_size": 64}, "mm_hidden_size"),
        ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(folder, change, key):
    edit_config(folder, **change)
    with pytest.raises(UserError, match=rf"config\.json: .*{key}"):
        open_llava(folder)


@pytest.mark.parametrize(
    ("aspect", "mode"), [("pad", "pad"), ("square", "center_crop"), (None, "center_crop")]
)
def test_the_checkpoint_says_how_pictures_are_made_square(folder, aspect, mode):
    edit_config(folder, image_aspect_ratio=aspect)
    assert open_llava(folder).image_mode == mode


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "llava_mistral"}, "model_type is 'llava_mistral'"),
        ({"architectures": ["LlavaMistralForCausalLM"]}, "architectures is 'LlavaMistralForCausalLM'"),
        ({"model_type": "llava_mpt"}, "model_type is 'llava_mpt'"),
        ({"model_type": {}}, "model_type is {}"),
        ({"sliding_window": 4}, "sliding_window is 4"),
    ],
)
def test_other_language_models_in_this_form_are_refused(folder, values, message):
    edit_config(folder, **values)
    with pytest.raises(UserError, match=message):
        open_llava(folder)


def test_the_names_that_llama_has_in_this_form(folder):
    for name in ("llava", "llava_llama"):
        edit_config(folder, model_type=name, sliding_window=None)
        open_llava(folder)
