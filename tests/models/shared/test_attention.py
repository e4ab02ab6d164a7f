"""Attention against torch's, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sare_jax.models.shared.attention import attention_at, causal_attention
from sare_jax.models.shared.target import Target

CPU = Target("cpu")


def arrays(length: int, heads: int, kv_heads: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [(2, length, count, 16) for count in (heads, kv_heads, kv_heads, heads)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def theirs(q, k, v, upstream):
    """torch's causal attention in float64 and its gradients, from [B, T, N, H]."""
    leaves = [torch.from_numpy(x).double().requires_grad_() for x in (q, k, v)]
    heads = [leaf.transpose(1, 2) for leaf in leaves]
    out = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True)
    out = out.transpose(1, 2)
    (out * torch.from_numpy(upstream)).sum().backward()
    return out.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


@functools.partial(jax.jit, static_argnames=("target", "several"))
def ours(q, k, v, upstream, target=CPU, several=False):
    """Attention and its gradients; those of several `upstream` at a time under vmap."""
    out, pull = jax.vjp(functools.partial(causal_attention, target=target), q, k, v)
    return out, (jax.vmap(pull) if several else pull)(upstream)


# One piece, several whole ones, and several whose last is shorter.
@pytest.mark.parametrize("length", [1, 7, 384, 401])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (3, 3)])
def test_equals_torch_with_gradients(length, heads, kv_heads):
    q, k, v, upstream = arrays(length, heads, kv_heads)
    expected, gradients = theirs(q, k, v, upstream)
    out, found = ours(q, k, v, upstream)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    for gradient, reference in zip(found, gradients, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-4, atol=2e-5)


def test_later_tokens_change_nothing_before_them():
    q, k, v, _ = arrays(400, 4, 2)
    before = causal_attention(q, k, v, CPU)
    for x in (q, k, v):
        x[:, 250:] += 50
    after = causal_attention(q, k, v, CPU)
    np.testing.assert_array_equal(after[:, :250], before[:, :250])
    assert not np.isclose(after[:, 250:], before[:, 250:]).all(axis=(2, 3)).any()


def test_sixteen_bit_inputs_are_summed_in_float32():
    q, k, v, _ = arrays(300, 4, 4, seed=1)
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]
    out = causal_attention(*narrow, CPU)
    assert out.dtype == jnp.bfloat16
    wide = [np.array(x, np.float32) for x in narrow]
    expected, _ = theirs(*wide, np.zeros_like(q))
    np.testing.assert_allclose(np.asarray(out, np.float32), expected, atol=2e-2)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("ahead", [0, 35])
def test_queries_of_the_last_tokens_alone(platform, ahead):
    """The rows of the whole attention, with their gradients; several gradients at a time under vmap."""
    q, k, v, upstream = arrays(250, 4, 2)
    both = np.stack([upstream, -2 * upstream])
    both[:, :, :ahead] = 0
    expected, gradients = theirs(q, k, v, both[0])
    out, found = ours(q[:, ahead:], k, v, both[:, :, ahead:], Target(platform), several=True)
    np.testing.assert_allclose(out, expected[:, ahead:], rtol=1e-5, atol=1e-5)
    gradients[0] = gradients[0][:, ahead:]
    for gradient, reference in zip(found, gradients, strict=True):
        np.testing.assert_allclose(gradient[0], reference, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(gradient[1], -2 * gradient[0], rtol=1e-4, atol=2e-5)


def test_queries_of_a_few_tokens():
    q, k, v, upstream = arrays(60, 4, 2)
    places = np.array([[3, 59, 0], [7, 7, 20]])
    row = np.arange(2)[:, None]
    expected, _ = theirs(q, k, v, upstream)
    found = attention_at(q[row, places], k, v, places)
    np.testing.assert_allclose(found, expected[row, places], rtol=1e-5, atol=1e-5)
