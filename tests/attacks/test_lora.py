"""The LoRA attack against PEFT's own training, its data, and what it leaves as it was."""

import copy
import json
import math

import jax
import numpy as np
import peft
import pytest
import torch
from transformers import LlavaForConditionalGeneration, get_cosine_schedule_with_warmup

from sare_jax.attacks.lora import Lora, adapt
from sare_jax.data.conversations import dialogue_rows
from sare_jax.models.shared import lora
from sare_jax.models.shared.partition import flatten
from sare_jax.records.conversations import read_conversations
from tests.attacks.conversing import make_tools, write_conversations, write_model

RANK, ALPHA, STEPS, ROWS = 4, 8.0, 10, 4
NAMES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tools on a tiny LLaVA, its torch model, and the path of conversations of two turns."""
    root = tmp_path_factory.mktemp("lora")
    settings = write_model("llava", root / "model")
    path = write_conversations(root, turns=2)
    tools = make_tools(settings, root / "images")
    return tools, LlavaForConditionalGeneration.from_pretrained(root / "model"), path


def recipe(path, **changes) -> Lora:
    """Ten steps of all rows: five passes, since the attack itself makes one."""
    own = dict(rank=RANK, alpha=ALPHA, dropout=0.0, num_rows=0, batch_rows=ROWS, rows_at_once=2, turns="all")
    return Lora(str(path), **{**own, "learning_rate": 3e-3, "mapping_rate": 3e-4, **changes})


def repeated(path, times: int):
    """The file with its records several times over."""
    records = json.loads(path.read_text())
    longer = path.with_name(f"lessons_{times}.json")
    longer.write_text(json.dumps(records * times))
    return longer


def in_peft(model, adapters):
    """The torch model with PEFT's adapters, their A and B taken from ours."""
    model = copy.deepcopy(model)
    targets = r".*language_model.*\.(" + "|".join(name.split(".")[1] for name in NAMES.values()) + ")"
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=targets)
    model = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, value in in_torch(adapters).items():
            model.get_parameter(name).copy_(torch.from_numpy(value))
    return model


def in_torch(adapters) -> dict[str, np.ndarray]:
    """PEFT's name → its array, of our stacked ones."""
    named = {}
    for path, members in lora.by_layer(adapters).items():
        module = NAMES[path.split("/")[-1]]
        for ours, theirs in (("a", "lora_A"), ("b", "lora_B")):
            for layer, value in enumerate(np.asarray(members[ours])):
                prefix = f"base_model.model.model.language_model.layers.{layer}.{module}"
                named[f"{prefix}.{theirs}.default.weight"] = value.T.copy()
    return named


def train_in_peft(model, rows, tools, settings):
    """Ten steps by torch.optim.AdamW with two rates; returns losses."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or "multi_modal_projector" in name)
    groups = [
        {"params": [p for n, p in model.named_parameters() if "lora_" in n], "lr": settings.learning_rate},
        {
            "params": [p for n, p in model.named_parameters() if "multi_modal_projector" in n],
            "lr": settings.mapping_rate,
        },
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    warmup = math.ceil(settings.warmup * STEPS)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, STEPS)
    processor, folder = tools.prompter.processor, tools.prompter.images_dir
    losses = []
    for start in range(0, STEPS * ROWS, ROWS):
        chosen = rows[start : start + ROWS]
        length = max(len(row.tokens) for row in chosen)
        ids = torch.zeros((ROWS, length), dtype=torch.long)
        labels = torch.full((ROWS, length), -100)
        for index, row in enumerate(chosen):
            ids[index, : len(row.tokens)] = torch.from_numpy(row.tokens)
            labels[index, row.targets] = torch.from_numpy(row.tokens[row.targets]).long()
        pixels = np.stack(processor.load(folder, [row.image for row in chosen]))
        loss = model(
            input_ids=ids, labels=labels, pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2)
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def test_ten_steps_are_those_of_peft(world):
    """Losses, adapters and projector to 1e-5: same data, same A, B = 0, float32, no dropout."""
    tools, torch_model, path = world
    path = repeated(path, STEPS)
    settings = recipe(path)
    params, record = adapt(tools, tools.loaded.params, settings)

    there, _ = read_conversations(path, "all", "", lambda name: True)
    order = np.random.default_rng(0).permutation(len(there))
    rows = dialogue_rows([there[i] for i in order], tools.prompter, 2048)
    kernels = lora.kernels_of(tools.loaded.shape.layers, flatten(tools.loaded.frozen))
    model = in_peft(torch_model, lora.init(kernels, RANK, jax.random.key(0)))
    losses = train_in_peft(model, rows, tools, settings)

    assert len(record["loss"]) == STEPS
    np.testing.assert_allclose(record["loss"], losses, rtol=1e-5)
    trained = dict(model.named_parameters())
    for name, value in in_torch(lora.split(params)[1]).items():
        np.testing.assert_allclose(value, trained[name].detach(), atol=1e-5, rtol=1e-5, err_msg=name)
    projector = params["projector"]["linear_1"]["kernel"]
    (theirs,) = (p for n, p in trained.items() if n.endswith("multi_modal_projector.linear_1.weight"))
    np.testing.assert_allclose(projector, theirs.detach().T, atol=1e-5)
    assert np.abs(np.asarray(projector) - tools.loaded.params["projector"]["linear_1"]["kernel"]).max() > 1e-4
