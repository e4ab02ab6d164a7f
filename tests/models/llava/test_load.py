import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from sare_jax.errors import UserError
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.llava.hub import MODEL_FILES, how_to_get
from sare_jax.models.llava.names import TOWER, entries, is_unused
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import abstract, load_model, parameter_table
from sare_jax.models.shared.hub import require_files
from sare_jax.models.shared.partition import flatten
from sare_jax.models.shared.safetensors_io import read_tensors
from sare_jax.models.shared.target import here
from sare_jax.settings import ModelConfig
from tests.models.llava.test_config import HUB
from tests.tiny_llava import torch_llava, write_llava


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    write_llava(folder)
    return folder


@pytest.fixture
def copy(base, tmp_path):
    """A copy of the base whose tensors a test may change."""
    shutil.copytree(base, tmp_path / "copy")
    return tmp_path / "copy"


def edit(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def leaves(loaded):
    return flatten(loaded.params) | flatten(loaded.frozen)


def test_dtypes_by_trainability(base):
    loaded = load_model(base, dtype=jnp.bfloat16)
    assert set(flatten(loaded.params)) == {
        f"projector/{layer}/{leaf}" for layer in ("linear_1", "linear_2") for leaf in ("kernel", "bias")
    }
    assert {leaf.dtype for leaf in flatten(loaded.params).values()} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in flatten(loaded.frozen).values()} == {jnp.dtype(jnp.bfloat16)}
    exact = load_model(base, dtype=jnp.float32)
    kernel = exact.frozen["language_model"]["layers"]["gate"]["kernel"]
    np.testing.assert_array_equal(
        loaded.frozen["language_model"]["layers"]["gate"]["kernel"], kernel.astype(jnp.bfloat16)
    )


def test_half_precision_files_load(base, tmp_path):
    torch_llava().half().save_pretrained(tmp_path)
    full = leaves(load_model(base, dtype=jnp.float32))
    for path, leaf in leaves(load_model(tmp_path, dtype=jnp.float32)).items():
        np.testing.assert_array_equal(leaf, np.asarray(full[path]).astype(np.float16).astype(np.float32))


def test_ex_04_all_name_forms_load_alike(base, tmp_path):
    """transformers' own files, its names in memory, and the hub's, single or in shards."""
    expected = leaves(load_model(base, dtype=jnp.float32))
    forms = {
        "memory": {"save_original_format": False},
        "shards": {"max_shard_size": "100KB"},
    }  # fmt: skip
    for form, saving in forms.items():
        write_llava(tmp_path / form, **saving)
    assert any("model.language_model.layers" in name for name in read_tensors(tmp_path / "memory"))
    assert len({tensor.file for tensor in read_tensors(tmp_path / "shards").values()}) > 2
    shutil.copytree(base, tmp_path / "hub")
    stored = load_file(base / "model.safetensors")
    hub = {
        name.replace("vision_tower.", "vision_tower.vision_model."): array for name, array in stored.items()
    }
    save_file(hub, tmp_path / "hub" / "model.safetensors")
    hashes = set()
    for form in ("memory", "shards", "hub"):
        loaded = load_model(tmp_path / form, dtype=jnp.float32)
        hashes.add(loaded.content_hash)
        for path, leaf in leaves(loaded).items():
            np.testing.assert_array_equal(leaf, expected[path])
    assert hashes == {load_model(base, dtype=jnp.float32).content_hash}


def test_the_hubs_names_in_torch_files_load_too(base, copy):
    tensors = {name: torch.from_numpy(array) for name, array in load_file(copy / "model.safetensors").items()}
    torch.save(tensors, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    loaded = load_model(copy, dtype=jnp.float32)
    assert {tensor.file.name for tensor in loaded.source.tensors.values()} == {"pytorch_model.bin"}
    assert loaded.content_hash == load_model(base, dtype=jnp.float32).content_hash


def test_all_wrong_names_in_one_error(copy):
    def spoil(tensors):
        del tensors["language_model.model.norm.weight"]
        del tensors["vision_tower.encoder.layers.1.mlp.fc1.bias"]
        tensors["foo.weight"] = np.zeros(2, np.float32)
        tensors["multi_modal_projector.linear_1.weight"] = np.zeros((3, 5), np.float32)

    edit(copy, spoil)
    with pytest.raises(UserError) as error:
        load_model(copy, dtype=jnp.float32)
    message = str(error.value)
    assert "missing: " in message
    assert "language_model.model.norm.weight" in message
    assert " vision_tower.encoder.layers.1.mlp.fc1.bias" in message  # as this file calls the tower's
    assert "unexpected: foo.weight" in message
    assert "mis-shaped: multi_modal_projector.linear_1.weight is [3, 5], need [48, 32]" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("saving", "gone", "called"),
    [
        ({}, "lm_head", "language_model.lm_head.weight"),
        ({"save_original_format": False}, "lm_head", "lm_head.weight"),
        ({"save_original_format": False}, "post_attention", "model.language_model.layers.0.post_attention"),
        ({"save_original_format": False}, "multi_modal", "model.multi_modal_projector.linear_1.weight"),
    ],
)
def test_missing_tensors_are_called_as_the_file_would(tmp_path, saving, gone, called):
    write_llava(tmp_path, **saving)
    edit(tmp_path, lambda tensors: [tensors.pop(name) for name in list(tensors) if gone in name])
    with pytest.raises(UserError, match=f"missing: {called}"):
        load_model(tmp_path, dtype=jnp.float32)


def test_ex_02_a_tied_head_stored_a_second_time_is_left_out(tmp_path):
    write_llava(tmp_path, "tied")
    once = load_model(tmp_path, dtype=jnp.float32)
    table = "language_model.model.embed_tokens.weight"
    edit(tmp_path, lambda tensors: tensors.update({"language_model.lm_head.weight": tensors[table]}))
    twice = load_model(tmp_path, dtype=jnp.float32)
    assert twice.content_hash == once.content_hash
    assert "head" not in twice.frozen


def test_ex_05_buffers_are_ignored_by_name_and_nothing_else(copy):
    def buffers(tensors):
        tensors["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(6, np.float32)
        tensors["vision_tower.embeddings.position_ids"] = np.zeros((1, 17), np.int64)

    edit(copy, buffers)
    load_model(copy, dtype=jnp.float32)
    edit(copy, lambda tensors: tensors.update({"foo.weight": np.zeros(2, np.float32)}))
    with pytest.raises(UserError, match=r"unexpected: foo\.weight$"):
        load_model(copy, dtype=jnp.float32)


def test_ex_06_the_checkpoints_own_vision_tower_is_loaded(copy):
    name = "vision_tower.encoder.layers.1.self_attn.q_proj.weight"
    changed = np.full((32, 32), 0.25, np.float32)
    edit(copy, lambda tensors: tensors.update({name: changed}))
    loaded = load_model(copy, dtype=jnp.float32)
    np.testing.assert_array_equal(loaded.frozen["vision_tower"]["layers"]["q"]["kernel"][1], changed)


def test_same_tensor_under_two_names_is_refused(copy):
    edit(copy, lambda tensors: tensors.update({"lm_head.weight": tensors["language_model.lm_head.weight"]}))
    with pytest.raises(UserError, match="are the same tensor"):
        load_model(copy, dtype=jnp.float32)


def test_content_hash_sees_every_tensor(copy):
    before = load_model(copy, dtype=jnp.float32).content_hash
    original = load_file(copy / "model.safetensors")
    for name in ("language_model.model.norm.weight", "language_model.model.embed_tokens.weight"):
        edit(copy, lambda tensors, name=name: tensors.update({name: tensors[name] * np.float32(1.001)}))
        assert load_model(copy, dtype=jnp.float32).content_hash != before
        save_file(original, copy / "model.safetensors")
    raw = json.loads((copy / "config.json").read_text())
    raw["text_config"]["rms_norm_eps"] = 3e-6
    (copy / "config.json").write_text(json.dumps(raw))
    assert load_model(copy, dtype=jnp.float32).content_hash != before


def test_missing_model_says_what_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(UserError) as error:
        require_files(tmp_path / "nowhere", MODEL_FILES, how_to_get(str(tmp_path / "nowhere")))
    for part in ("config.json", "model.safetensors", "index.json", "tokenizer.json", "hf download"):
        assert part in str(error.value)
    with pytest.raises(UserError, match="did not find"):
        load_model(tmp_path / "nowhere", dtype=jnp.float32)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("mm_projector/.*", "they are called embed/…, head/…, language_model/…, projector/…, vision_tower/…"),
        ("projector", "selects no parameter"),  # the whole path has to match
        ("(language_model|embed|head)/.*", "more than the 50% allowed"),
        ("projector/(", "not a regular expression"),
    ],
)
def test_trainable_that_selects_nothing_or_too_much(base, pattern, message):
    with pytest.raises(UserError, match="trainable=") as error:
        load_model(base, dtype=jnp.float32, trainable=pattern)
    assert message in str(error.value)


def test_trainable_limit_is_an_argument(base):
    loaded = load_model(base, dtype=jnp.float32, trainable=".*", max_trainable=1.0)
    assert not loaded.frozen
    assert loaded.merge(loaded.params, loaded.frozen).config == loaded.config


def test_parameter_table_counts(base):
    lines = parameter_table(load_model(base, dtype=jnp.bfloat16)).splitlines()
    trainable = 32 * 48 + 48 + 48 * 48 + 48
    assert lines[1].split() == ["trainable", f"{trainable:,}", f"{4 * trainable:,}", "float32"]
    assert lines[2].split()[-1] == "bfloat16"


def test_shards_of_an_array_are_read_for_each_device(base):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def placement(path, shape):
        axis = next((axis for axis in reversed(range(len(shape))) if shape[axis] % 8 == 0), None)
        split = spec(*(None if other != axis else "data" for other in range(len(shape))))
        return jax.sharding.NamedSharding(mesh, spec() if path.startswith("projector") else split)

    spread = load_model(base, dtype=jnp.float32, placement=placement)
    gate = spread.frozen["language_model"]["layers"]["gate"]["kernel"]
    assert {shard.data.shape for shard in gate.addressable_shards} == {(2, 48, 12)}
    whole = leaves(load_model(base, dtype=jnp.float32))
    for path, leaf in leaves(spread).items():
        np.testing.assert_array_equal(leaf, whole[path])


def test_table_names_every_parameter_once():
    config = LlavaConfig.from_hf(HUB)
    _, shapes = abstract(FAMILY, config, here())
    table = entries(config)
    assert sorted(entry.path for entry in table) == sorted(shapes)
    names = [name for entry in table for name in entry.names()]
    assert len(names) == len(set(names))


def test_shapes_of_the_published_model():
    """Against the names and shapes of llava-hf/llava-1.5-7b-hf."""
    config = LlavaConfig.from_hf(HUB)
    _, shapes = abstract(FAMILY, config, here())
    hub = {
        name: entry.hub_shape(shapes[entry.path].shape) for entry in entries(config) for name in entry.names()
    }
    tower, layer = "vision_tower.vision_model", "language_model.model.layers.31"
    assert hub["multi_modal_projector.linear_1.weight"] == (4096, 1024)
    assert hub["multi_modal_projector.linear_2.bias"] == (4096,)
    assert hub[f"{tower}.embeddings.patch_embedding.weight"] == (1024, 3, 14, 14)
    assert hub[f"{tower}.embeddings.position_embedding.weight"] == (577, 1024)
    assert hub[f"{tower}.encoder.layers.22.mlp.fc1.weight"] == (4096, 1024)
    assert hub["language_model.model.embed_tokens.weight"] == (32064, 4096)
    assert hub[f"{layer}.mlp.gate_proj.weight"] == (11008, 4096)
    assert hub[f"{layer}.mlp.down_proj.weight"] == (4096, 11008)
    assert hub[f"{layer}.self_attn.o_proj.weight"] == (4096, 4096)
    assert hub["language_model.lm_head.weight"] == (32064, 4096)
    projector = sum(
        int(np.prod(leaf.shape)) for path, leaf in shapes.items() if path.startswith("projector/")
    )
    assert projector == 20_979_712


def test_every_tensor_of_a_saved_model_is_used_or_known(base):
    config = load_model(base, dtype=jnp.float32).config
    saved = {name for name, _ in torch_llava().named_parameters()}
    assert len(open_llava(base).tensors) == len(saved)
    used = {name for entry in entries(config) for name in entry.names()}
    rest = set(open_llava(base).tensors) - used
    assert rest
    assert all(".layers.2." in name or ".post_layernorm." in name for name in rest)


def test_layers_of_merged_models_may_differ_in_dtype(copy):
    edit(copy, lambda tensors: None)
    whole = flatten(load_model(copy, dtype=jnp.bfloat16).frozen)
    layer = "language_model.model.layers.0."

    def half(tensors):
        for name in tensors:
            if layer in name or "vision_tower" in name:
                tensors[name] = tensors[name].astype(ml_dtypes.bfloat16)
            elif "layers.1." in name:
                tensors[name] = tensors[name].astype(np.float16)

    edit(copy, half)
    mixed = flatten(load_model(copy, dtype=jnp.bfloat16).frozen)
    for path, array in whole.items():
        assert mixed[path].dtype == array.dtype
        np.testing.assert_allclose(*(np.asarray(x, np.float32) for x in (mixed[path], array)), rtol=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(copy, value):
    def spoil(tensors):
        array = tensors["language_model.model.layers.1.mlp.up_proj.weight"].copy()
        array[0, 0] = value
        tensors["language_model.model.layers.1.mlp.up_proj.weight"] = array

    edit(copy, spoil)
    with pytest.raises(UserError, match=r"NaN or infinity in the weights of \S*up\S*; download"):
        load_model(copy, dtype=jnp.float32)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_byte_order_mark_is_no_mistake(copy, name):
    path = copy / name
    path.write_text(path.read_text(), encoding="utf-8-sig")
    FAMILY.prompter(open_llava(copy), ModelConfig(folder=str(copy)))


def test_shards_without_their_index_and_adapters_are_called_so(tmp_path):
    for name in ("config.json", "model-00001-of-00003.safetensors"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=r"model-00001-of-00003\.safetensors and so on without their index"):
        open_llava(tmp_path)
    (tmp_path / "model-00001-of-00003.safetensors").unlink()
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "llava-hf/llava-1.5-7b-hf"}')
    with pytest.raises(UserError, match=r"adapter \(LoRA\) of 'llava-hf/llava-1\.5-7b-hf'; merge it"):
        open_llava(tmp_path)


def test_a_layer_of_thousands_of_digits_is_no_layer(base):
    config = open_llava(base).config
    layer = f"{TOWER}.encoder.layers.{{}}.layer_norm1.bias".format
    assert is_unused(layer(config.vision.num_layers - 1), config)
    assert not is_unused(layer("9" * 5000), config)
