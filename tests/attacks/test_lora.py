"""The LoRA attack against PEFT's own training, its data, and what it leaves as it was."""

import copy
import dataclasses
import json
import math
import shutil

import jax
import numpy as np
import peft
import pytest
import torch
from transformers import LlavaForConditionalGeneration, get_cosine_schedule_with_warmup

from sare_jax import files
from sare_jax.attacks.lora import Lora, _chosen, adapt
from sare_jax.data.conversations import dialogue_rows
from sare_jax.errors import UserError
from sare_jax.models.shared import lora
from sare_jax.models.shared.partition import flatten, hash_params, unflatten
from sare_jax.plan import sizer
from sare_jax.records.conversations import read_conversations
from sare_jax.settings import ModelConfig
from sare_jax.settings.building import build
from sare_jax.training.checkpoints import load_params, save_params
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
    """A small attack on all rows of the file."""
    own = {"rank": RANK, "alpha": ALPHA, "dropout": 0.0, "learning_rate": 3e-3, "mapping_rate": 3e-4}
    sizes = {"num_rows": 0, "batch_rows": ROWS, "rows_at_once": 2, "turns": "all"}
    return Lora(str(path), **own | sizes | changes)


def repeated(path, times: int):
    """The file with its records several times over."""
    records = json.loads(path.read_text())
    longer = path.with_name(f"lessons_{times}.json")
    longer.write_text(json.dumps(records * times))
    return longer


def in_peft(model, adapters, alpha):
    """The torch model with PEFT's adapters, their A and B taken from ours."""
    model = copy.deepcopy(model)
    targets = r".*language_model.*\.(" + "|".join(name.split(".")[1] for name in NAMES.values()) + ")"
    config = peft.LoraConfig(r=RANK, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets)
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
    # Adam makes much of rounding where a gradient is nearly zero, so adapters add much here.
    settings = recipe(path, alpha=32.0)
    params, record = adapt(tools, tools.loaded.params, settings)

    there, _ = read_conversations(path, "all", "", lambda name: True)
    order = np.random.default_rng(0).permutation(len(there))
    rows = dialogue_rows([there[i] for i in order], tools.prompter, 2048)
    kernels = lora.kernels_of(tools.loaded.shape.layers, flatten(tools.loaded.frozen))
    model = in_peft(torch_model, lora.init(kernels, RANK, jax.random.key(0)), settings.alpha)
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


def test_rows_at_once_may_be_left_to_what_fits(world, tmp_path, monkeypatch):
    """The step that will run is what is asked about; its parts do not change what is learnt."""
    tools, _, path = world
    auto = recipe(path, rows_at_once="auto")
    with pytest.raises(UserError, match="tiny lora: rows_at_once: auto needs a run's own devices"):
        adapt(tools, tools.loaded.params, auto)
    asked, real = [], sizer._peak
    monkeypatch.setattr(sizer, "_peak", lambda program: asked.append(real(program)) or asked[-1])
    chooser = sizer.DeviceSizer(tools.mesh, "attacks.lora.rows_at_once", 2, {}, tmp_path / "sizes.json")
    found, record = trained(dataclasses.replace(tools, sizer=chooser), auto)
    assert [entry["chosen"] for entry in files.read_json(tmp_path / "sizes.json")] == [2]
    assert len(asked) == 1
    assert asked[0] > sum(leaf.nbytes for leaf in flatten(tools.loaded.frozen).values())
    known, same = trained(tools, recipe(path, rows_at_once=2))
    assert record["loss"] == same["loss"]
    assert_close(found, known, atol=0)


def trained(tools, settings):
    params, record = adapt(tools, tools.loaded.params, settings)
    return flatten(params), record


def assert_close(actual, expected, atol):
    assert actual.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(actual[path], value, atol=atol, err_msg=path)


@pytest.fixture(scope="module")
def dropped(world):
    """Two steps with dropout, all rows at once."""
    tools, _, path = world
    return trained(tools, recipe(repeated(path, 2), warmup=0.0, dropout=0.5, rows_at_once=ROWS))


def test_what_is_dropped_depends_on_neither_micro_batches_nor_devices(world, dropped):
    """On two devices that share the frozen weights, one row of each at a time."""
    tools, _, path = world
    config = ModelConfig(folder=str(tools.loaded.folder))
    spread = make_tools(config, tools.prompter.images_dir, devices=1, fsdp=2)
    kernel = spread.loaded.frozen["language_model"]["layers"]["q"]["kernel"]
    assert not kernel.sharding.is_fully_replicated
    made, _ = trained(spread, recipe(repeated(path, 2), warmup=0.0, dropout=0.5, rows_at_once=1))
    assert_close(made, dropped[0], 2e-5)
    assert all(leaf.sharding.is_fully_replicated for leaf in made.values())


def test_dropout_changes_what_is_learnt_and_rates_are_told(world, dropped):
    tools, _, path = world
    _, record = dropped
    plain, told = trained(tools, recipe(repeated(path, 2), warmup=0.0))
    assert record["loss"][0] == pytest.approx(told["loss"][0], rel=1e-6)  # B = 0: nothing is added yet
    assert record["loss"][1] != pytest.approx(told["loss"][1], rel=1e-3)
    assert told["rate_adapters"] == pytest.approx([3e-3, 1.5e-3])
    assert told["rate_mapping"] == pytest.approx([3e-4, 1.5e-4])
    assert (told["rows"], told["steps"], told["left_out"]) == (8, 2, {})
    assert told["adapters"]["number"] == 7 * 2
    sizes = [leaf.size for path, leaf in plain.items() if path.endswith(("lora/a", "lora/b"))]
    assert told["adapters"]["parameters"] == sum(sizes)
    by_hand = [
        plain[f"{path}/scale"][:, None, None] * (plain[f"{path}/a"] @ plain[f"{path}/b"])
        for path in {path.rsplit("/", 1)[0] for path in plain if lora.is_adapter(path)}
    ]
    norm = math.sqrt(sum(float((delta**2).sum()) for delta in by_hand))
    assert told["adapters"]["l2"] == pytest.approx(norm, rel=1e-5)


def test_lo_04_adapters_and_projector_move_at_their_own_rates(world):
    """Adam's first step moves each weight by its rate."""
    tools, _, path = world
    before = flatten(tools.loaded.params)
    moved, _ = trained(tools, recipe(path, warmup=0.0))
    assert float(np.abs(moved["language_model/layers/up/lora/b"]).max()) == pytest.approx(3e-3, rel=1e-2)
    step = np.abs(np.asarray(moved["projector/linear_1/kernel"]) - before["projector/linear_1/kernel"]).max()
    assert float(step) == pytest.approx(3e-4, rel=1e-2)


def test_lo_02_a_saved_attack_comes_back_whole(world, dropped, tmp_path):
    """Adapters and projector: the same parameters, and the same hidden states."""
    tools, _, _ = world
    flat, _ = dropped
    save_params(tmp_path / "saved", unflatten(flat), tools.loaded)
    again = load_params(tmp_path / "saved", tools.loaded)
    assert hash_params(again) == hash_params(unflatten(flat))
    assert again["projector"]["linear_1"]["kernel"].sharding.is_fully_replicated


@pytest.mark.parametrize(("family", "mapping_rate"), [("mplug_owl", 1e-3), ("llama2", 0.0)])
def test_other_families_learn_too_and_at_rate_0_their_own_parameters_stay(family, mapping_rate, tmp_path):
    path = write_conversations(tmp_path)
    tools = make_tools(write_model(family, tmp_path / "model"), tmp_path / "images")
    settings = recipe(repeated(path, 3), warmup=0.0, learning_rate=2e-2, mapping_rate=mapping_rate)
    flat, record = trained(tools, settings)
    assert record["loss"][-1] < record["loss"][0] - 0.1
    assert all(path.startswith(tools.loaded.shape.layers) for path in flat if lora.is_adapter(path))
    own = flatten(tools.loaded.params)
    assert all(np.array_equal(flat[path], leaf) for path, leaf in own.items()) == (mapping_rate == 0)


def test_more_rows_begin_with_fewer_and_too_many_are_refused(world):
    tools, _, path = world
    few, many = (_chosen(tools, tools.pictures(""), recipe(path, num_rows=count))[0] for count in (2, 4))
    assert many[:2] == few
    with pytest.raises(UserError, match=r"num_rows is 5, but .*lessons\.json has 4 that can be used"):
        adapt(tools, tools.loaded.params, recipe(path, num_rows=5))


def test_images_that_are_missing_or_broken_are_left_out(world, tmp_path):
    tools, _, path = world
    for name in ("0.png", "1.png"):
        shutil.copy(tools.prompter.images_dir / name, tmp_path / name)
    (tmp_path / "2.png").write_bytes(b"no picture")
    settings = recipe(path, images=str(tmp_path))
    rows, left_out = _chosen(tools, tools.pictures(settings.images), settings)
    assert sorted(row.image for row in rows) == ["0.png", "1.png"]
    assert left_out == {"image missing": 1, "image cannot be read": 1}


def test_settings_out_of_range_are_refused():
    for key, value in {"dropout": 1.0, "rank": 0, "alpha": 0.0, "num_rows": -1, "mapping_rate": -1.0}.items():
        with pytest.raises(UserError, match=rf"where\.{key}: must be"):
            build(Lora, {key: value}, "where")
