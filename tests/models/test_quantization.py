"""int8 kernels: against numpy, in every family against the same numbers in float32, and where they may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from sare_jax.errors import UserError
from sare_jax.inference.generate import generate
from sare_jax.models.families import model_folder, open_source
from sare_jax.models.interface import merge
from sare_jax.models.load import int8_paths, load_model
from sare_jax.models.shared.layers import Linear, RMSNorm
from sare_jax.models.shared.partition import flatten, unflatten
from sare_jax.models.shared.quantization import quantize, scale_path, split
from sare_jax.settings import ModelConfig
from sare_jax.settings.building import build
from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import gathering, load_onto, make_mesh
from tests.attacks.conversing import write_model
from tests.models.qwen import tiny
from tests.models.small_world import assert_gradients_close, attached, batches, make_world

FAMILIES = ("llava", "mplug_owl", "llama2", "vicuna", "qwen3_vl", "qwen2_5_vl")
RNG = np.random.default_rng(0)


def whole_numbers(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `quantize` has to give, in plain numpy and float32."""
    scale = np.abs(kernel).max(0) / np.float32(127)
    scale = np.where(scale == 0, np.float32(1), scale)
    return np.round(kernel / scale).astype(np.int8), scale


def assert_quantized(found, scale, kernel: np.ndarray) -> None:
    """Up to the rounding of a division: one number in a thousand may be its neighbour's."""
    wanted, scales = whole_numbers(kernel)
    off = np.abs(np.asarray(found, np.int32) - wanted)
    assert found.dtype == np.int8
    assert off.max() <= 1
    assert np.mean(off > 0) < 1e-3
    np.testing.assert_allclose(scale, scales, rtol=1e-6)


def test_a_column_spans_all_numbers_and_is_within_half_a_scale():
    kernel = RNG.normal(size=(96, 40)).astype(np.float32) * RNG.lognormal(size=40).astype(np.float32)
    kernel[:, 7] = 0
    found, scale = map(np.asarray, quantize(kernel))
    assert_quantized(found, scale, kernel)
    assert scale.dtype == np.float32
    assert np.all(np.delete(np.abs(found).max(0), 7) == 127)
    assert not found[:, 7].any()
    assert np.all(np.abs(found * scale - kernel) <= 0.5 * scale * (1 + 1e-5))


class One(nnx.Module):
    """A linear layer, which may be int8, and a norm, which may not."""

    def __init__(self, inner: int, outer: int):
        self.linear = Linear(inner, outer, rngs=nnx.Rngs(0))
        self.norm = RMSNorm(inner, 1e-6)


def one(kernel: np.ndarray, path: str = "linear", adapter: dict | None = None):
    graphdef, state = nnx.split(One(*kernel.shape))
    found, scale = quantize(kernel)
    frozen = flatten(nnx.to_pure_dict(state)) | {"linear/kernel": found, f"{path}/kernel_scale": scale}
    members = {f"linear/lora/{name}": leaf for name, leaf in (adapter or {}).items()}
    return merge(graphdef, unflatten(members), unflatten(frozen)), np.asarray(found) * np.asarray(
        scale, np.float64
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 1e-2)])
def test_product_and_gradient_are_those_of_whole_numbers_times_scales(dtype, tolerance):
    model, plain = one(RNG.normal(size=(64, 24)).astype(np.float32))
    x, back = (jnp.asarray(RNG.normal(size=(5, size)), dtype) for size in (64, 24))
    result, pull = jax.vjp(model.linear, x)
    for found, wanted in ((result, np.float64(x) @ plain), (pull(back)[0], np.float64(back) @ plain.T)):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


def test_an_adapter_stands_beside_an_int8_kernel():
    kernel, a, b = (RNG.normal(size=size).astype(np.float32) for size in ((16, 8), (16, 2), (2, 8)))
    model, plain = one(kernel, adapter={"a": a, "b": b, "scale": np.float32(4)})
    x = RNG.normal(size=(3, 16)).astype(np.float32)
    np.testing.assert_allclose(model.linear(x), x @ (plain + 4 * a @ b), rtol=1e-4, atol=1e-4)
    assert model.linear.kernel[...].dtype == jnp.int8


def test_a_layer_that_is_not_linear_is_named():
    with pytest.raises(UserError, match=r"model\.quantization: norm is no layer that can be int8"):
        one(np.ones((3, 3), np.float32), "norm")


def test_another_format_is_one_line():
    with pytest.raises(UserError, match=r"config\.model\.quantization: .*'int4'") as error:
        build(ModelConfig, {"quantization": "int4"}, "config.model")
    assert "\n" not in str(error.value)


def as_plain(frozen):
    """The same weights without int8: whole numbers times scales, in float32."""
    weights, scales = split(frozen)
    flat, beside = flatten(weights), flatten(scales)
    for path, leaf in flat.items():
        if leaf.dtype == jnp.int8:
            flat[path] = leaf * beside[scale_path(path)][:, None]
    return unflatten(flat)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    """A small world of a family, and its model with int8 kernels."""
    root, family = tmp_path_factory.mktemp(request.param), request.param
    if family.startswith("qwen"):
        {"qwen3_vl": tiny.write_qwen3, "qwen2_5_vl": tiny.write_qwen2_5}[family](root / "model")
        settings = ModelConfig(folder=str(root / "model"), family=family)
    else:
        settings = write_model(family, root / "model")
    world = make_world(settings, root)
    loaded = load_model(world.loaded.source, dtype=jnp.float32, quantization="int8", max_trainable=0.9)
    return world, loaded


def test_the_language_models_kernels_alone_are_int8(pair):
    world, loaded = pair
    exact, found = flatten(world.loaded.frozen), flatten(loaded.frozen)
    chosen = {path for path, leaf in found.items() if leaf.dtype == jnp.int8}
    names = ("q", "k", "v", "out", "gate", "up", "down")
    assert chosen == {f"{loaded.shape.layers}{name}/kernel" for name in names}
    assert chosen == int8_paths(loaded.family, loaded.config, "int8")
    assert int8_paths(loaded.family, loaded.config, "none") == frozenset()
    assert found.keys() - exact.keys() == {scale_path(path) for path in chosen}
    for path, leaf in exact.items():
        if path not in chosen:
            np.testing.assert_array_equal(found[path], leaf)
            continue
        for layer, scale, kernel in zip(found[path], found[scale_path(path)], leaf, strict=True):
            assert_quantized(layer, scale, np.asarray(kernel))
    np.testing.assert_array_equal(*(jax.tree.leaves(each.params)[0] for each in (world.loaded, loaded)))


def test_answers_are_those_of_the_same_numbers_in_float32(pair):
    world, loaded = pair
    prompts = [world.prompter.prompt(ask, int(_slots(world, 0))) for ask in ("What is it?", "Describe it.")]
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    tokens = np.zeros((2, lengths.max()), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    features = jnp.asarray(world.features(["0.png", "0.png"]))
    answers = [
        generate(
            loaded.graphdef,
            loaded.params,
            frozen,
            tokens,
            lengths,
            features,
            max_new_tokens=8,
            end_ids=(world.prompter.eos_id,),
            pad_id=world.prompter.pad_id,
        )
        for frozen in (loaded.frozen, as_plain(loaded.frozen))
    ]
    np.testing.assert_array_equal(*(np.asarray(answer.ids) for answer in answers))
    assert int(np.max(answers[0].counts)) > 1


def _slots(world, number: int) -> int:
    return world.processor.num_image_tokens(world.images / f"{number}.png")


def test_gradients_are_those_of_the_same_numbers_and_nearly_those_of_float32(pair):
    """Of D_neg's mean −log P, with respect to what is trained."""
    world, loaded = pair
    part = attached(world, batches(world)["unpacked"])["neg"]
    last = jnp.asarray(part["end"] - 1)[:, None]
    tokens, features = jnp.asarray(part["tokens"]), jnp.asarray(part["features"])

    @jax.jit
    @jax.grad
    def gradient(params, frozen):
        model = loaded.merge(params, frozen)
        states = model.read(tokens, model.project(features), positions=last - 1)
        log_p = jax.nn.log_softmax(model.logits(states)[:, 0])
        return -jnp.mean(jnp.take_along_axis(log_p, jnp.take_along_axis(tokens, last, 1), 1))

    found, same, exact = (
        gradient(loaded.params, frozen)
        for frozen in (loaded.frozen, as_plain(loaded.frozen), world.loaded.frozen)
    )
    assert_gradients_close(found, same, 1e-4)
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (found, exact))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    print(f"cosine {cosine:.5f}")
    assert 0.99 < cosine < 1


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_no_widened_kernel_is_kept_for_the_backward_pass(tmp_path, remat):
    write_model("llava", tmp_path)
    loaded = load_model(tmp_path, dtype=jnp.float32, quantization="int8")
    policy, tokens = remat_policy(remat, make_mesh(1)), jnp.zeros((1, 7), jnp.int32)

    def backward(params, frozen, image_embeds):
        model = loaded.merge(params, frozen)
        positions = jnp.array([[2, 3]])
        read = lambda x: model.read(tokens, x, positions=positions, remat_policy=policy)  # noqa: E731
        return jax.vjp(read, image_embeds)[1]

    embeds = jnp.zeros((1, loaded.shape.num_image_tokens, loaded.config.text.width))
    kept = jax.tree.leaves(jax.eval_shape(backward, loaded.params, loaded.frozen, embeds))
    stacks = {leaf.shape for leaf in jax.tree.leaves(loaded.frozen) if leaf.dtype == jnp.int8}
    assert stacks & {leaf.shape for leaf in kept}  # as int8, which the layers are read from again
    kernels = stacks | {shape[1:] for shape in stacks}
    assert {leaf.dtype for leaf in kept if leaf.shape in kernels} == {jnp.dtype(jnp.int8)}


def test_weights_that_are_divided_give_the_same_answers(tmp_path):
    settings = write_model("llava", tmp_path)
    source = open_source(model_folder(settings), settings)
    hidden = {}
    for fsdp in (1, 2):
        mesh = make_mesh(1, fsdp)
        quantized = ModelConfig(folder=settings.folder, dtype="float32", fsdp=fsdp, quantization="int8")
        loaded = load_onto(mesh, source, quantized)
        layers = loaded.frozen["language_model"]["layers"]
        for name in ("up", "down"):
            kernel, scale = layers[name]["kernel"], layers[name]["kernel_scale"]
            assert kernel.dtype == jnp.int8
            assert kernel.sharding.shard_shape(kernel.shape)[-1] * fsdp == kernel.shape[-1]
            assert scale.sharding.shard_shape(scale.shape)[-1] * fsdp == scale.shape[-1]
        with gathering(mesh):
            run = jax.jit(
                lambda params, frozen, loaded=loaded: loaded.merge(params, frozen).hidden(
                    jnp.arange(4, 12)[None], None
                )
            )
            hidden[fsdp] = np.asarray(run(loaded.params, loaded.frozen))
    np.testing.assert_allclose(hidden[1], hidden[2], rtol=1e-5, atol=1e-6)


def test_weights_that_are_not_numbers_are_refused_in_int8_too(tmp_path):
    write_model("llava", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name][2, 3] = np.nan
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"NaN or infinity in the weights of language_model/layers/up/kernel"):
        load_model(tmp_path, dtype=jnp.bfloat16, quantization="int8")


def test_kernels_that_are_trained_stay_float32(tmp_path):
    write_model("llava", tmp_path)
    path = "language_model/layers/up/kernel"
    loaded = load_model(tmp_path, dtype=jnp.float32, quantization="int8", trainable=path)
    assert flatten(loaded.params)[path].dtype == jnp.float32
    assert scale_path(path) not in flatten(loaded.frozen)
    assert flatten(loaded.frozen)["language_model/layers/down/kernel"].dtype == jnp.int8
