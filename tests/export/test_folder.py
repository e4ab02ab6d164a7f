import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from sare_jax.errors import UserError
from sare_jax.models.llava.export.folder import export_folder
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model
from sare_jax.models.shared.partition import flatten
from sare_jax.models.shared.safetensors_io import INDEX, read_header, read_tensors
from tests.tiny_llava import torch_llava, write_llava

PROJECTOR = {
    f"multi_modal_projector.{layer}.{leaf}"
    for layer in ("linear_1", "linear_2")
    for leaf in ("weight", "bias")
}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    write_llava(folder, max_shard_size="100KB")
    return folder


@pytest.fixture(scope="module")
def loaded(sharded):
    return load_model(sharded, dtype=jnp.float32)


@pytest.fixture(scope="module")
def tuned(loaded):
    """Parameters after a training that moved all of them a little, as they come from it."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: leaf + 1e-3 * rng.normal(size=leaf.shape).astype(np.float32), loaded.params
    )


def stored_bytes(folder):
    return {name: (str(t.dtype), t.map().tobytes()) for name, t in read_tensors(folder).items()}


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 20)[None]).logits.numpy()


def test_ex_07_only_tuned_tensors_differ(sharded, tuned, tmp_path):
    export_folder(open_llava(sharded), tuned, tmp_path / "out")
    before, after = stored_bytes(sharded), stored_bytes(tmp_path / "out")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == PROJECTOR


def test_import_export_import_is_the_identity(sharded, loaded, tuned, tmp_path):
    export_folder(open_llava(sharded), tuned, tmp_path / "out")
    again = load_model(tmp_path / "out", dtype=jnp.float32)
    for path, leaf in flatten(tuned).items():
        np.testing.assert_array_equal(flatten(again.params)[path], leaf)
    for path, leaf in flatten(loaded.frozen).items():
        np.testing.assert_array_equal(flatten(again.frozen)[path], leaf)


@pytest.mark.parametrize("original", [True, False])
def test_ex_04_source_layout_is_kept_and_a_second_export_changes_nothing(original, tmp_path):
    write_llava(tmp_path / "in", save_original_format=original)
    export_folder(
        open_llava(tmp_path / "in"), load_model(tmp_path / "in", dtype=jnp.bfloat16).params, tmp_path / "out"
    )
    assert stored_bytes(tmp_path / "in") == stored_bytes(tmp_path / "out")


def test_ex_03_no_stale_shards_and_a_true_index(sharded, loaded, tuned, tmp_path):
    out = tmp_path / "out"
    export_folder(open_llava(sharded), tuned, out)
    many = {path.name for path in out.glob("*.safetensors")}
    write_llava(tmp_path / "fewer", max_shard_size="300KB")
    export_folder(open_llava(tmp_path / "fewer"), tuned, out)
    files = {path.name for path in out.glob("*.safetensors")}
    assert 1 < len(files) < len(many)
    index = json.loads((out / INDEX).read_text())
    placed = {name: file for file in files for name in read_header(out / file)[0]}
    assert index["weight_map"] == placed
    assert index["metadata"]["total_size"] == sum(t.num_bytes for t in read_tensors(out).values())
    for file in files:
        with safe_open(out / file, "np") as stream:
            assert stream.metadata()["format"] == "pt"


@pytest.mark.parametrize("shape", ["plain", "tied"])
def test_ex_02_head_is_stored_once_when_tied_and_beside_the_table_when_not(shape, tmp_path):
    write_llava(tmp_path / "in", shape)
    export_folder(
        open_llava(tmp_path / "in"), load_model(tmp_path / "in", dtype=jnp.float32).params, tmp_path / "out"
    )
    names = load_file(tmp_path / "out" / "model.safetensors")
    table, head = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    same = torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    if shape == "tied":
        assert head not in names
        assert same
    else:
        assert not np.array_equal(names[head], names[table])
        assert not same


def test_export_loads_in_transformers_with_the_tuned_weights(sharded, tuned, tmp_path):
    export_folder(open_llava(sharded), tuned, tmp_path / "out")
    model, report = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    kernel = tuned["projector"]["linear_1"]["kernel"]
    weight = model.model.multi_modal_projector.linear_1.weight.detach().numpy()
    np.testing.assert_array_equal(weight, np.asarray(kernel).T)
    np.testing.assert_array_equal(logits(model.eval()), logits(torch_llava()))
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a dog").input_ids


def test_small_steps_survive_a_half_precision_base(tmp_path):
    torch_llava().half().save_pretrained(tmp_path / "in")
    params = load_model(tmp_path / "in", dtype=jnp.bfloat16).params
    export_folder(open_llava(tmp_path / "in"), params, tmp_path / "same")
    assert stored_bytes(tmp_path / "in") == stored_bytes(tmp_path / "same")
    moved = jax.tree.map(lambda leaf: leaf + 1e-5, params)
    export_folder(open_llava(tmp_path / "in"), moved, tmp_path / "out")
    dtypes = {name: tensor.dtype for name, tensor in read_tensors(tmp_path / "out").items()}
    assert {name for name, dtype in dtypes.items() if dtype == np.float32} == PROJECTOR
    for path, leaf in flatten(load_model(tmp_path / "out", dtype=jnp.bfloat16).params).items():
        np.testing.assert_array_equal(leaf, flatten(moved)[path])


def test_stacked_parameters_go_back_to_their_layers(sharded, tmp_path):
    loaded = load_model(sharded, dtype=jnp.float32, trainable="language_model/layers/up/kernel")
    doubled = jax.tree.map(lambda leaf: 2 * leaf, loaded.params)
    export_folder(open_llava(sharded), doubled, tmp_path / "out")
    before, after = read_tensors(sharded), read_tensors(tmp_path / "out")
    changed = {name for name in before if not np.array_equal(before[name].map(), after[name].map())}
    assert changed == {f"language_model.model.layers.{layer}.mlp.up_proj.weight" for layer in range(2)}
    for name in changed:
        np.testing.assert_array_equal(2 * before[name].map(), after[name].map())


def test_other_files_are_copied_and_other_weights_are_not(sharded, loaded, tmp_path):
    shutil.copytree(sharded, tmp_path / "in")
    (tmp_path / "in" / "chat_template.jinja").write_text("{{ messages }}")
    (tmp_path / "in" / "pytorch_model.bin").write_bytes(b"untuned")
    (tmp_path / "in" / ".cache").mkdir()
    (tmp_path / "in" / ".cache" / "lock").touch()
    export_folder(open_llava(tmp_path / "in"), loaded.params, tmp_path / "out")
    names = {path.name for path in (tmp_path / "in").iterdir()} - {"pytorch_model.bin", ".cache"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert not [path for path in tmp_path.iterdir() if "draft" in path.name]


def test_failed_export_leaves_the_earlier_one_whole(sharded, loaded, tmp_path):
    export_folder(open_llava(sharded), loaded.params, tmp_path / "out")
    before = stored_bytes(tmp_path / "out")
    shutil.copytree(sharded, tmp_path / "broken")
    last = sorted((tmp_path / "broken").glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(UserError, match=last.name):
        export_folder(open_llava(tmp_path / "broken"), loaded.params, tmp_path / "out")
    assert stored_bytes(tmp_path / "out") == before
    assert not [path for path in tmp_path.iterdir() if "draft" in path.name]


def test_target_that_is_no_model_is_left_alone(sharded, loaded, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    with pytest.raises(UserError, match="photos: exists and is no model"):
        export_folder(open_llava(sharded), loaded.params, tmp_path / "photos")
    with pytest.raises(UserError, match="base model"):
        export_folder(open_llava(sharded), loaded.params, sharded)


def test_parameters_of_another_model_are_refused(sharded, loaded, tmp_path):
    other = {"projector": {**loaded.params["projector"], "linear_3": {"bias": np.zeros(4, np.float32)}}}
    with pytest.raises(UserError, match="no parameter projector/linear_3/bias"):
        export_folder(open_llava(sharded), other, tmp_path / "out")
    wide = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), loaded.params)
    with pytest.raises(UserError, match=r"linear_1/bias is \[48\], the tuned one is \[96\]"):
        export_folder(open_llava(sharded), wide, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hub_cache_of_links_is_exported_as_files(sharded, loaded, tmp_path):
    (tmp_path / "snapshot").mkdir()
    for path in sharded.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    export_folder(open_llava(tmp_path / "snapshot"), loaded.params, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_symlink()]


def test_base_without_config_is_refused(tmp_path):
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"config\.json"):
        export_folder(open_llava(tmp_path), {}, tmp_path.parent / "elsewhere")


def test_ex_08_fields_that_older_processors_lack_are_added(sharded, loaded, tmp_path):
    shutil.copytree(sharded, tmp_path / "in")
    (tmp_path / "in" / "processor_config.json").write_text('{"processor_class": "LlavaProcessor"}')
    export_folder(open_llava(tmp_path / "in"), loaded.params, tmp_path / "out")
    fields = json.loads((tmp_path / "out" / "processor_config.json").read_text())
    assert fields["patch_size"] == 7
    assert fields["vision_feature_select_strategy"] == "default"
    assert AutoProcessor.from_pretrained(tmp_path / "out").patch_size == 7
    before = (sharded / "processor_config.json").read_bytes()
    export_folder(open_llava(sharded), loaded.params, tmp_path / "whole")
    assert (tmp_path / "whole" / "processor_config.json").read_bytes() == before


def test_torch_files_of_the_hub_become_safetensors(tmp_path, loaded, tuned, sharded):
    shutil.copytree(sharded, tmp_path / "in", ignore=shutil.ignore_patterns("*.safetensors*"))
    state = {name: torch.from_numpy(t.map().copy()) for name, t in read_tensors(sharded).items()}
    torch.save(state, tmp_path / "in" / "pytorch_model.bin")
    export_folder(open_llava(tmp_path / "in"), tuned, tmp_path / "out")
    before, after = stored_bytes(sharded), stored_bytes(tmp_path / "out")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == PROJECTOR
    assert not list((tmp_path / "out").glob("*.bin"))


def test_head_stored_twice_in_a_tied_model_is_written_once(tmp_path):
    """A copy that nothing reads would be stale after a tuning of the table."""
    write_llava(tmp_path / "in", "tied", save_original_format=True)
    tensors = load_file(tmp_path / "in" / "model.safetensors")
    table = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    tensors["language_model.lm_head.weight"] = tensors[table].copy()
    save_file(tensors, tmp_path / "in" / "model.safetensors", metadata={"format": "pt"})
    params = load_model(tmp_path / "in", dtype=jnp.float32, trainable="embed/table").params
    export_folder(open_llava(tmp_path / "in"), jax.tree.map(lambda leaf: 2 * leaf, params), tmp_path / "out")
    assert "language_model.lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    np.testing.assert_array_equal(model.lm_head.weight.detach(), 2 * tensors[table])


def test_ex_03_missing_shard_of_the_base_is_named(sharded, loaded, tmp_path):
    shutil.copytree(sharded, tmp_path / "in")
    last = sorted((tmp_path / "in").glob("*.safetensors"))[-1]
    last.unlink()
    with pytest.raises(UserError, match=last.name):
        export_folder(open_llava(tmp_path / "in"), loaded.params, tmp_path / "out")


def test_ex_05_buffers_are_no_error_and_unknown_tensors_are(tmp_path, loaded, sharded):
    write_llava(tmp_path / "in")
    file = tmp_path / "in" / "model.safetensors"
    tensors = load_file(file)
    buffer = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq"
    save_file({**tensors, buffer: np.ones(3, np.float32)}, file, metadata={"format": "pt"})
    export_folder(open_llava(tmp_path / "in"), loaded.params, tmp_path / "out")
    save_file({**tensors, "foo.weight": np.ones(3, np.float32)}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"unexpected: foo\.weight"):
        export_folder(open_llava(tmp_path / "in"), loaded.params, tmp_path / "other")


def test_ex_06_tuned_vision_tower_of_the_base_is_exported(tmp_path):
    model = write_llava(tmp_path / "in", seed=5)
    params = load_model(tmp_path / "in", dtype=jnp.float32).params
    export_folder(open_llava(tmp_path / "in"), params, tmp_path / "out")
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").model.vision_tower.state_dict()
    for name, weight in model.model.vision_tower.state_dict().items():
        assert torch.equal(again[name], weight)
