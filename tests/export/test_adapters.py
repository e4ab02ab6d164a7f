"""LoRA adapters in PEFT's layout: transformers and peft answer as the model here does."""

import json

import jax
import numpy as np
import peft
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from sare_jax.errors import UserError
from sare_jax.export import export_model, verify
from sare_jax.export.checkpoint import read_tuned
from sare_jax.inference.ask import ask
from sare_jax.models.llava.export.in_transformers import generated
from sare_jax.models.shared import lora
from sare_jax.models.shared.partition import combine, flatten, hash_params
from sare_jax.models.shared.safetensors_io import read_header
from sare_jax.settings import GREEDY
from sare_jax.training.checkpoints import save_params
from tests.attacks.conversing import make_tools, write_conversations, write_model

RANK, SCALE, NEW = 3, 1.5, 12


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tools on a tiny LLaVA, and the parameters of a run under attack: adapters and a moved projector."""
    root = tmp_path_factory.mktemp("adapters")
    write_conversations(root)
    tools = make_tools(write_model("llava", root / "model"), root / "images")
    kernels = lora.kernels_of(tools.loaded.shape.layers, flatten(tools.loaded.frozen))
    rng = np.random.default_rng(0)
    drawn = combine(lora.init(kernels, RANK, jax.random.key(0)), tools.loaded.params)
    moved = jax.tree.map(lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32), drawn)
    return tools, combine(moved, lora.scales(kernels, SCALE))


@pytest.fixture(scope="module")
def exported(world, tmp_path_factory):
    tools, params = world
    folder = tmp_path_factory.mktemp("peft") / "out"
    export_model(tools.loaded.source, params, folder, "peft", step=3, settings={})
    assert "read back and equal" in verify(tools.loaded.source, params, folder, "peft", step=3)
    return folder


def test_transformers_and_peft_give_the_same_greedy_text(world, exported, tmp_path):
    tools, params = world
    about = tools.prompter
    requests = [
        {"image": f"{number}.png", "instruction": text}
        for number, text in enumerate(["What is there?", "Is there a cat?", "Who sits here?", "Describe it."])
    ]

    def ours(params):
        made = ask(
            tools.loaded,
            params,
            requests,
            images_dir=about.images_dir,
            out=tmp_path / "answers.jsonl",
            processor=about.processor,
            prompter=about.prompter,
            max_new_tokens=NEW,
            batch_size=4,
            name="tiny",
        )
        return [answer["text"] for answer in made]

    def theirs(model):
        made = generated(model, requests, about=about, end_ids=(2,), max_new_tokens=NEW, decoding=GREEDY)
        return [text.strip() for text in made]

    base = LlavaForConditionalGeneration.from_pretrained(tools.loaded.folder, dtype=torch.float32)
    # Tokens that are never generated here; random weights would choose them.
    tokens = about.prompter.num_tokens
    barred = [about.prompter.image_token_id, *range(tokens, tools.loaded.shape.text.vocab_size)]
    base.generation_config.suppress_tokens = barred
    plain = theirs(base.eval())
    model = peft.PeftModel.from_pretrained(base, exported).eval()
    assert theirs(model) == ours(params)
    assert theirs(model) != plain
    # Merged by peft, W + scale · B A is the same model.
    assert theirs(model.merge_and_unload()) == ours(params)


def test_names_and_settings_are_those_of_peft(world, exported):
    tools, params = world
    tensors, about = read_header(exported / "adapter_model.safetensors")
    first = "base_model.model.model.language_model.layers.1.mlp.down_proj"
    down = params["language_model"]["layers"]["down"]["lora"]
    np.testing.assert_array_equal(tensors[f"{first}.lora_A.weight"].map(), np.asarray(down["a"])[1].T)
    np.testing.assert_array_equal(tensors[f"{first}.lora_B.weight"].map(), np.asarray(down["b"])[1].T)
    assert len(tensors) == 2 * 7 * 2 + 4
    assert not any("vision_tower" in name for name in tensors)
    config = json.loads((exported / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (RANK, SCALE * RANK)
    assert config["base_model_name_or_path"] == str(tools.loaded.folder)
    assert about["step"] == "3"


def test_a_checkpoint_of_the_attack_is_read_for_export(world, tmp_path):
    tools, params = world
    save_params(tmp_path / "run+lora", params, tools.loaded)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    again = read_tuned(tmp_path / "run+lora", 0, tools.loaded.source, sharding)
    assert hash_params(again) == hash_params(params)


@pytest.mark.parametrize("form", ["folder", "projector", "efuf"])
def test_ex_10_other_forms_do_not_drop_adapters_unseen(world, tmp_path, form):
    tools, params = world
    with pytest.raises(UserError, match=r"there are LoRA adapters .* take --form peft"):
        export_model(tools.loaded.source, params, tmp_path / "out", form, step=0, settings={})


def test_parameters_without_adapters_are_no_adapters(world, tmp_path):
    tools, params = world
    own, _ = lora.split(params)
    with pytest.raises(UserError, match="these parameters have none"):
        export_model(tools.loaded.source, own, tmp_path / "out", "peft", step=0, settings={})
