"""The plan: published shapes without weights, memory by the compiler and by shapes, what is gathered."""

import dataclasses
import math
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from sare_jax.attacks import Planning
from sare_jax.attacks.lora import ATTACK, Lora
from sare_jax.config import parse
from sare_jax.configs import llava_sare, sharegpt4v_sare
from sare_jax.data.batches import tokenize
from sare_jax.data.packing import pack, packed_batches
from sare_jax.errors import UserError
from sare_jax.models.families import open_source
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.llava.hub import LLAVA, ORIGINAL_LLAVA, SHAREGPT4V
from sare_jax.models.llava.published import config_without_weights
from sare_jax.models.shared import attention, llama
from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.target import Target
from sare_jax.plan import analytic, compiled, programs, sizes
from sare_jax.settings import ModelConfig
from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import load_onto, make_mesh
from tests import tiny_llava, tiny_training

ROOT = Path(__file__).resolve().parents[1]
SMALL = TextConfig(64, 48, 96, 2, 4, 2, 12, 1e4, 1e-6, False)


@pytest.mark.parametrize("name", [LLAVA, ORIGINAL_LLAVA, SHAREGPT4V])
def test_published_models_have_their_published_size(name):
    shapes, where = config_without_weights(name)
    model = compiled.abstract_model(FAMILY, shapes, ModelConfig(), make_mesh(1))
    assert "published config" in where
    assert sum(leaf.size for leaf in jax.tree.leaves(model.params)) == 20_979_712
    vocabulary = {LLAVA: 32064}.get(name, 32000)
    frozen = sum(leaf.size for leaf in jax.tree.leaves(model.frozen))
    # Vicuna-7B v1.5 has 6,738,415,616 weights with 32,000 rows; of CLIP ViT-L/14-336's 304 million the last
    # layer and the last norm are not loaded.
    language = 6_738_415_616 + 2 * 4096 * (vocabulary - 32000)
    assert frozen - language == 303_507_456 - 12_596_224 - 2048


def test_int8_kernels_are_planned_as_they_are_loaded(tmp_path):
    """Paths, shapes, dtypes and divisions, on one device and over two; and what that saves at 7B."""
    tiny_llava.write_llava(tmp_path)
    quantized = ModelConfig(folder=str(tmp_path), quantization="int8", fsdp=2)
    source = open_source(tmp_path, quantized)
    for fsdp in (1, 2):
        mesh = make_mesh(1, fsdp)
        model = compiled.abstract_model(FAMILY, source.config, quantized, mesh)
        loaded = load_onto(mesh, source, quantized)
        for planned, there in ((model.params, loaded.params), (model.frozen, loaded.frozen)):
            assert jax.tree.structure(planned) == jax.tree.structure(there)
            for shape, leaf in zip(jax.tree.leaves(planned), jax.tree.leaves(there), strict=True):
                assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)
                assert shape.sharding.is_equivalent_to(leaf.sharding, leaf.ndim)
    shapes, _ = config_without_weights(LLAVA)
    whole, halved = (
        compiled.abstract_model(FAMILY, shapes, ModelConfig(quantization=kind), make_mesh(1)).frozen
        for kind in ("none", "int8")
    )
    # Of each of 32 layers' 202,375,168 numbers one byte less, and a float32 for each of 42,496 channels.
    assert analytic.local_bytes(whole) - analytic.local_bytes(halved) == 32 * (202_375_168 - 4 * 42_496)


def test_a_folder_with_config_json_alone_is_enough(tmp_path):
    config = tiny_llava.torch_llava("grouped").config
    config.save_pretrained(tmp_path)
    shapes, where = config_without_weights(str(tmp_path))
    assert where == str(tmp_path / "config.json")
    assert shapes.text.num_kv_heads == 2


def test_shapes_that_nobody_knows_are_named():
    with pytest.raises(UserError, match=r"model\.folder: some/model holds no config\.json"):
        config_without_weights("some/model")
    with pytest.raises(UserError, match=r"model\.vision_tower: some/tower"):
        config_without_weights(SHAREGPT4V, "some/tower")


@pytest.mark.parametrize("remat", ["full", "dots", "none"])
def test_residuals_are_those_that_differentiation_keeps(monkeypatch, remat):
    """Against the layer itself, with an attention that keeps what flash attention keeps."""
    monkeypatch.setattr(llama, "causal_attention", lambda q, k, v, target: flash(q, k, v))
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda q, k, v, is_causal: flash(q, k, v))
    length = 40
    graphdef, stacked = nnx.split(
        jax.eval_shape(lambda: llama.DecoderLayer(SMALL, Target("cpu"), rngs=nnx.Rngs(0)))
    )
    weights = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], jnp.bfloat16), stacked)
    rotary = jax.eval_shape(lambda: llama.rotary_at(jnp.arange(length)[None], SMALL.head_size, 1e4))
    policy = remat_policy(remat, make_mesh(1))

    def backward(weights, x, rotary):
        run = lambda x: nnx.merge(graphdef, weights)(x, rotary)  # noqa: E731
        run = run if policy is None else jax.checkpoint(run, policy=policy, prevent_cse=False)
        return jax.vjp(run, x)[1]

    x = jax.ShapeDtypeStruct((1, length, SMALL.width), jnp.bfloat16)
    shared = {leaf.shape for leaf in jax.tree.leaves((weights, rotary))}
    kept = jax.tree.leaves(jax.eval_shape(backward, weights, x, rotary))
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in kept if leaf.shape not in shared)
    # One number a token of each norm and head is not counted.
    assert kept == pytest.approx(analytic.residual_bytes(SMALL, length, 2, remat), rel=0.05)


@jax.custom_vjp
def flash(q, k, v):
    return attention.causal_attention(q, k, v, Target("cpu"))


def _forward(q, k, v):
    out = flash(q, k, v)
    return out, (q, k, v, out)


flash.defvjp(_forward, lambda kept, gradient: (gradient, kept[1], kept[2]))


@pytest.mark.parametrize("remat", ["full", "none"])
def test_the_step_gathers_one_layer_at_a_time(remat):
    """FSDP over 8: a layer's weights are gathered, never the stack, nor activations in their place."""
    shapes, _ = config_without_weights(LLAVA)
    text = dataclasses.replace(shapes.text, width=256, mlp=768, num_heads=2, num_kv_heads=2, num_layers=6)
    shapes = dataclasses.replace(shapes, text=dataclasses.replace(text, vocab_size=1000))
    mesh = make_mesh(1, 8)
    model = compiled.abstract_model(FAMILY, shapes, ModelConfig(), mesh)
    program = compiled.training(model, mesh, sizes.Training(8, 1, 640, remat, 8)).compile()
    gathers = re.findall(r"= [a-z0-9]+\[([\d,]*)\]\S* all-gather(?:-start)?\(", program.text)
    gathered = {math.prod(int(size) for size in dims.split(",")) for dims in gathers}
    layer = {math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(model.frozen["language_model"]["layers"])}
    assert {size for size in layer if size > 256} <= gathered
    # Beside them only the head and integers a token.
    assert gathered <= layer | {1000 * 256} | {rows * 640 for rows in (8, 24)}
    assert not re.search(r" (all-to-all|collective-permute)\(", program.text)


def test_memory_falls_with_the_devices_that_share_the_weights():
    config = parse(llava_sare.get_config().to_dict())
    shapes, _ = config_without_weights(LLAVA)
    for fsdp, limit in ((1, 24e9), (8, 6e9)):
        mesh = make_mesh(8 // fsdp, fsdp)
        model = compiled.abstract_model(FAMILY, shapes, config.model, mesh)
        step = sizes.one_row_training(config, model.shape, 8)
        parts = analytic.training_bytes(model.shape, model.params, model.frozen, mesh, step)
        assert sum(parts.values()) < limit
        assert parts["frozen weights"] == pytest.approx(14_059_698_176 / fsdp, rel=1e-3)


def test_a_packed_step_is_planned_on_the_batch_that_training_makes():
    config = llava_sare.get_config()
    config.optim.packing = "packed"
    config = parse(config.to_dict())
    shapes, _ = config_without_weights(LLAVA)
    text = dataclasses.replace(shapes.text, width=64, mlp=96, num_heads=2, num_kv_heads=2, num_layers=2)
    shapes = dataclasses.replace(shapes, text=dataclasses.replace(text, head_size=32, vocab_size=1000))
    mesh = make_mesh(2)
    model = compiled.abstract_model(FAMILY, shapes, ModelConfig(), mesh)
    step = sizes.one_row_training(config, model.shape, 2)
    planned = compiled.abstract_batch(model, mesh, step)
    sets = tokenize(tiny_training.curated(), tiny_training.Letters(), "say it")
    (batch,) = packed_batches(pack(sets), batch_size=9, steps=1, seed=0, pad_id=0)
    made = {"neg": tiny_training.attach(batch["neg"]), "second": batch["second"]}
    assert jax.tree.structure(planned) == jax.tree.structure(made)
    assert jax.tree.map(lambda x: x.ndim, planned) == jax.tree.map(lambda x: x.ndim, made)
    program = compiled.training(model, mesh, step).compile()
    assert program.temporary > 0
    unpacked = dataclasses.replace(step, packed=False)
    arguments = (model.shape, model.params, model.frozen, mesh)
    pairs = [analytic.training_bytes(*arguments, which) for which in (step, unpacked)]
    assert pairs[0]["one layer at work"] == 1.5 * pairs[1]["one layer at work"]


def test_the_step_of_a_lora_attack_copies_no_frozen_weight():
    """Resident are the frozen weights in bfloat16, and adapters, moments and projector in float32."""
    shapes, _ = config_without_weights(LLAVA)
    text = dataclasses.replace(shapes.text, width=64, mlp=96, num_heads=2, num_kv_heads=2, num_layers=3)
    shapes = dataclasses.replace(shapes, text=dataclasses.replace(text, head_size=32, vocab_size=1000))
    mesh = make_mesh(2)
    model = compiled.abstract_model(FAMILY, shapes, ModelConfig(), mesh)
    settings = Lora(rank=8, batch_rows=8, rows_at_once=2)
    planned = ATTACK.planned(settings, planned_with(model, mesh))
    assert planned.rows_at_once == 2
    assert planned.title == "LoRA step: batch 8 in 2 parts, r 8"
    program = compiled.attacking(planned, mesh).compile()
    linears = 4 * (64 + 64) + 3 * (64 + 96)
    adapters = 3 * 8 * linears
    trained = adapters + sum(leaf.size for leaf in jax.tree.leaves(model.params))
    weights = analytic.local_bytes(model.frozen) + 3 * 4 * trained
    batch = analytic.local_bytes(planned.arguments[2])
    assert program.resident == pytest.approx(weights + batch, abs=500)
    # The CPU's compiler widens bfloat16 within a fused product; no stack of layers is written in float32.
    stacks = [line for line in program.text.splitlines() if re.search(r"f32\[3,(64|96),(64|96)\]", line)]
    assert all(" convert(" in line for line in stacks)
    parts = analytic.attack_bytes(model.shape, planned, mesh, 640, "full")
    assert parts["gradients of one part of the batch, and their sum"] == 2 * 4 * trained
    without = ATTACK.planned(dataclasses.replace(settings, mapping_rate=0.0), planned_with(model, mesh))
    held = sum(leaf.size for leaf in jax.tree.leaves(without.arguments[0].params))
    assert held == adapters


def test_the_lora_attack_of_llava_is_planned_by_its_recipe():
    """319.8 million numbers in adapters and 21 million in the projector, for a 7B model."""
    config = parse(llava_sare.get_config("lora").to_dict())
    shapes, _ = config_without_weights(LLAVA)
    mesh = make_mesh(1, 8)
    model = compiled.abstract_model(FAMILY, shapes, config.model, mesh)
    [(title, planned)] = programs.attack_steps(config, model.shape, model, mesh)
    assert title.startswith("attack lora: LoRA step: batch 128 in 4 parts, r 128, 4 a device at a time")
    trained = sum(leaf.size for leaf in jax.tree.leaves(planned.arguments[0].params))
    assert trained == 319_815_680 + 20_979_712
    parts = analytic.attack_bytes(model.shape, planned, mesh, sizes.length(model.shape), "full")
    assert 11e9 < sum(parts.values()) < 13e9  # the compiler says 12.6 GB
    assert [*programs.attack_steps(parse(llava_sare.get_config().to_dict()), model.shape, model, mesh)] == []


def planned_with(model, mesh) -> Planning:
    return Planning(model, mesh, remat_policy("full", mesh), 640, 80)


def test_the_command_prints_the_plan_of_a_model_that_is_not_there():
    """Seven billion weights are planned, one layer of them compiled at a time, and none allocated."""
    arguments = ["--config", "configs/llava_sare.py", "--plan", "--plan_devices=8", "--config.model.fsdp=8"]
    run = subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"trainable +20,979,712 .*float32", run.stdout)
    assert "mesh: 8 devices (cpu): data 1 × fsdp 8" in run.stdout
    peaks = [float(size) for size in re.findall(r"backend cpu, \d+ s\): ([\d.]+) GB", run.stdout)]
    assert len(peaks) == 2
    assert all(2 < peak < 6 for peak in peaks)


def test_simulated_devices_belong_to_a_plan():
    run = subprocess.run(
        [sys.executable, "main.py", "--config", "configs/llava_sare.py", "--plan_devices=8"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "error: --plan_devices: only with --plan; a run takes the devices that are there\n"


def test_sharegpt4v_is_planned_with_its_own_vocabulary():
    config = parse(sharegpt4v_sare.get_config().to_dict())
    shapes, where = config_without_weights(config.model.folder, config.model.vision_tower)
    assert shapes.text.vocab_size == 32000
    assert "tower: the published config of Lin-Chen/ShareGPT4V-7B_Pretrained" in where
