"""Adapters beside linear layers: where they stand, what they add, what they drop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sare_jax.errors import UserError
from sare_jax.models.interface import merge
from sare_jax.models.shared import lora
from sare_jax.models.shared.layers import Linear, RMSNorm
from sare_jax.models.shared.partition import combine, flatten, unflatten
from tests.tiny_training import tiny_llava

LOADED = tiny_llava()
FLAT = flatten(LOADED.frozen) | flatten(LOADED.params)
KERNELS = lora.kernels_of(LOADED.shape.layers, FLAT)
LINEARS = ("q", "k", "v", "out", "gate", "up", "down")


class Two(nnx.Module):
    """A linear layer, which takes an adapter, and a norm, which takes none."""

    def __init__(self, kernel):
        self.linear = Linear(*kernel.shape, rngs=nnx.Rngs(0))
        self.linear.kernel[...] = kernel
        self.norm = RMSNorm(3, 1e-6)


def adapted(kernel, members, path="linear"):
    graphdef, state = nnx.split(Two(kernel))
    adapter = {f"{path}/lora/{name}": leaf for name, leaf in members.items()}
    return merge(graphdef, unflatten(adapter), nnx.to_pure_dict(state))


def test_lo_01_adapters_stand_in_the_language_model_alone():
    assert sorted(KERNELS) == sorted(f"language_model/layers/{name}" for name in LINEARS)
    adapters = flatten(lora.init(KERNELS, 2, jax.random.key(0)))
    assert len(adapters) == 2 * len(LINEARS)
    assert all(leaf.shape[0] == LOADED.config.text.num_layers for leaf in adapters.values())
    with pytest.raises(UserError, match="decoder/: no linear layers there"):
        lora.kernels_of("decoder/", FLAT)
    with pytest.raises(UserError, match="norm: is no linear layer"):
        adapted(jnp.ones((3, 3)), {"a": jnp.ones((3, 2)), "b": jnp.ones((2, 3)), "scale": 1.0}, "norm")


def test_lo_03_an_adapter_adds_its_scale_times_a_b_and_nothing_is_merged():
    """W = 0, r = 8, α = 32: 4 · x A B. The kernel stays as it was, so nothing can be merged twice."""
    keys = jax.random.split(jax.random.key(0), 3)
    a, b, x = (
        jax.random.normal(key, shape) for key, shape in zip(keys, [(6, 8), (8, 5), (2, 6)], strict=True)
    )
    model = adapted(jnp.zeros((6, 5)), {"a": a, "b": b, "scale": jnp.float32(32 / 8)})
    np.testing.assert_allclose(model.linear(x), 4 * x @ (a @ b), rtol=2e-5, atol=1e-5)
    assert not model.linear.kernel[...].any()
    assert lora.l2({"linear": {"lora": {"a": a, "b": b, "scale": jnp.float32(4)}}}) == pytest.approx(
        float(jnp.linalg.norm(4 * a @ b)), rel=1e-5
    )


def test_fresh_adapters_change_no_bit():
    adapters = combine(lora.init(KERNELS, 2, jax.random.key(1)), lora.scales(KERNELS, 2.0))
    tokens = jnp.arange(8)[None]
    run = jax.jit(lambda params: LOADED.merge(params, LOADED.frozen).hidden(tokens, None))
    np.testing.assert_array_equal(run(LOADED.params), run(combine(LOADED.params, adapters)))
    bound = max(float(jnp.abs(leaf).max()) for path, leaf in flatten(adapters).items() if path.endswith("/a"))
    assert 0.9 * 16**-0.5 < bound <= 16**-0.5


def test_rows_drop_inputs_of_their_own_and_keep_the_mean():
    a, b = jnp.eye(400), jnp.eye(400)
    adapters = unflatten({"one/lora/a": a[None], "two/lora/a": a[None]})
    masks = lora.dropping(adapters, jax.random.split(jax.random.key(0), 3), 0.75)
    x = jnp.ones((3, 5, 400))

    def run(path):
        members = {name: leaf[0] for name, leaf in lora.by_layer(masks)[path].items()}
        return lora.Adapter({"a": a, "b": b, "scale": jnp.float32(1), **members})(x)

    one, two = run("one"), run("two")
    assert set(np.unique(one).tolist()) == {0.0, float(jnp.float32(1) / jnp.float32(0.75))}
    assert float(one.mean()) == pytest.approx(1, abs=0.05)
    assert not any(np.array_equal(one[0], other) for other in (one[1], one[2], two[0]))
    np.testing.assert_array_equal(one, run("one"))
