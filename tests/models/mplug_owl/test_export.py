"""A tuned mPLUG-Owl in its published form: what changed, and who reads it back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sare_jax.errors import UserError
from sare_jax.export import differences, export_model, verify
from sare_jax.export.tuned import load_tuned
from sare_jax.inference.generate import generate
from sare_jax.models.families import open_source
from sare_jax.models.load import load_model
from sare_jax.models.shared.partition import flatten
from sare_jax.settings import ModelConfig
from tests import tiny_owl
from tests.models.mplug_owl import oracle

TUNED = ("abstractor.", "query_tokens")


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def tuned(request, tmp_path_factory):
    """A base, and parameters that are not its own."""
    folder = tmp_path_factory.mktemp("base") / "owl"
    tiny_owl.write_owl(folder, dtype=request.param)
    loaded = load_model(folder, dtype=jnp.float32)
    rng = np.random.default_rng(0)
    return loaded, jax.tree.map(
        lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), loaded.params
    )


@pytest.mark.parametrize(
    ("form", "file"), [("published", "pytorch_model.bin"), ("folder", "model.safetensors")]
)
def test_whole_model_changes_in_the_tuned_tensors_alone(tuned, tmp_path, form, file):
    loaded, params = tuned
    source, folder = loaded.source, tmp_path / "out"
    export_model(source, params, folder, form, step=3, settings={})
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["config.json", "preprocessor_config.json", "tokenizer.model", file]
    )
    assert "tensors have other values than in the base" in verify(source, params, folder, form, step=3)
    changes = differences(source, folder)
    assert set(changes.changed) == {name for name in source.tensors if name.startswith(TUNED)}
    assert (changes.missing, changes.added) == ((), ())
    again = load_model(folder, dtype=jnp.float32)
    for path, leaf in flatten(again.params).items():
        np.testing.assert_array_equal(leaf, flatten(params)[path])


def test_the_oracle_reads_the_published_form_and_answers_alike(tuned, tmp_path):
    loaded, params = tuned
    export_model(loaded.source, params, tmp_path / "out", "published", step=3, settings={})
    state = torch.load(tmp_path / "out" / "pytorch_model.bin", weights_only=True)
    assert list(state) == list(torch.load(loaded.folder / "pytorch_model.bin"))
    tensors = {name: tensor.float() for name, tensor in state.items()}
    raw = json.loads((tmp_path / "out" / "config.json").read_text())
    pixels = np.random.default_rng(1).standard_normal((1, 28, 28, 3)).astype(np.float32)
    again = load_model(tmp_path / "out", dtype=jnp.float32)
    prompter = again.family.prompter(open_source(again.folder), ModelConfig())
    prompt = prompter.prompt("What?", again.shape.num_image_tokens)
    features = again.merge(again.params, again.frozen).encode_images(pixels)
    arguments = (jnp.array([prompt]), jnp.array([len(prompt)]), features)
    made = generate(
        again.graphdef,
        again.params,
        again.frozen,
        *arguments,
        max_new_tokens=12,
        end_ids=(prompter.eos_id,),
        pad_id=prompter.pad_id,
    )
    with torch.no_grad():
        image = oracle.vision(tensors, torch.from_numpy(pixels).permute(0, 3, 1, 2), heads=4, layers=3)
        image = oracle.abstractor(tensors, image, heads=4, layers=2)
        llama = tiny_owl.torch_llama(tensors, raw)
        words = oracle.embeddings(llama, torch.tensor(prompt), image, again.config.image_token_id)
        reference = oracle.greedy(llama, words, 12, prompter.eos_id)
    assert np.asarray(made.ids)[0, : len(reference)].tolist() == reference
    assert len(set(reference)) > 2


@pytest.mark.parametrize(
    ("form", "file"), [("efuf", "step_000003.pth"), ("abstractor", "abstractor.safetensors")]
)
def test_tuned_tensors_alone(tuned, tmp_path, form, file):
    loaded, params = tuned
    export_model(loaded.source, params, tmp_path / "out", form, step=3, settings={"rho": 0.05})
    assert "48 tensors, 20,112 parameters" in verify(loaded.source, params, tmp_path / "out", form, step=3)
    found = load_tuned(tmp_path / "out" / file, loaded.source)
    for path, leaf in flatten(found).items():
        np.testing.assert_array_equal(leaf, flatten(params)[path])
    if form == "efuf":
        state = torch.load(tmp_path / "out" / file, weights_only=True)
        assert all(name.startswith(TUNED) and tensor.dtype == torch.float32 for name, tensor in state.items())
        assert json.loads((tmp_path / "out" / "config.json").read_text())["rho"] == 0.05


def test_a_folder_of_something_else_is_not_replaced(tuned, tmp_path):
    loaded, params = tuned
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("keep")
    for form in ("published", "efuf"):
        with pytest.raises(UserError, match="exists and is no"):
            export_model(loaded.source, params, tmp_path / "out", form, step=3, settings={})
