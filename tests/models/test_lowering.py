"""Programs for a GPU, lowered where there is none."""

import functools

import jax
import jax.numpy as jnp
import pytest

from sare_jax.inference.generate import generate
from sare_jax.models.interface import merge
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.load import abstract
from sare_jax.models.shared.config import TextConfig, VisionConfig
from sare_jax.models.shared.partition import unflatten
from sare_jax.models.shared.target import Target

FLASH = "cudnn$fmhaSoftmax"
CONFIG = LlavaConfig(
    vision=VisionConfig(16, 16, 2, 2, 3, 8, 4, "quick_gelu", 1e-5),
    text=TextConfig(64, 64, 32, 2, 4, 2, 16, 10000.0, 1e-6, False),
    image_token_id=63,
    feature_layer=-2,
    keep_class_token=False,
)
ROWS, LENGTH, SLOTS = 4, 24, 4


def weights(target, dtype=jnp.bfloat16):
    graphdef, shapes = abstract(FAMILY, CONFIG, target)
    trees = ({}, {})
    for path, leaf in shapes.items():
        tuned = path.startswith("projector/")
        kind = jnp.float32 if tuned else dtype
        trees[not tuned][path] = jax.ShapeDtypeStruct(leaf.shape, kind)
    return graphdef, *map(unflatten, trees)


def inputs(dtype=jnp.bfloat16):
    tokens = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
    return tokens, jax.ShapeDtypeStruct((ROWS, SLOTS, CONFIG.vision.width), dtype)


def trained(target, lowering):
    """The gradient of a training pass, as text."""
    graphdef, params, frozen = weights(target)

    def loss(params, frozen, tokens, features):
        model = merge(graphdef, params, frozen)
        positions = jnp.full((ROWS, 3), LENGTH - 1)
        hidden = model.read(tokens, model.project(features), positions=positions, prefix=(1, 2))
        return jnp.square(model.logits(hidden)).sum()

    traced = jax.jit(jax.grad(loss)).trace(params, frozen, *inputs())
    return traced.lower(lowering_platforms=(lowering,)).as_text()


def captioned(target, lowering):
    """Greedy generation, as text."""
    graphdef, params, frozen = weights(target)
    lengths = jax.ShapeDtypeStruct((ROWS,), jnp.int32)
    tokens, features = inputs()
    greedy = functools.partial(generate, graphdef, max_new_tokens=4, end_ids=(2,), pad_id=0)
    traced = jax.jit(greedy).trace(params, frozen, tokens, lengths, features)
    return traced.lower(lowering_platforms=(lowering,)).as_text()


@pytest.fixture(autouse=True)
def cudnn(monkeypatch):
    """What jax's CUDA plugin would answer, where it is not installed."""
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)


@pytest.mark.parametrize("program", [trained, captioned])
def test_a_gpu_gets_flash_attention_and_none_of_the_cpus_tuning(program):
    text = program(Target("gpu"), "cuda")
    assert FLASH in text
    cpu = program(Target("cpu"), "cpu")
    assert FLASH not in cpu


def test_flash_attention_goes_back_too():
    assert f"{FLASH}Backward" in trained(Target("gpu"), "cuda")
