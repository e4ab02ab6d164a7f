"""The product with the head and its gradients, in both number formats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.models.shared.head import head_product

DTYPES = [(jnp.float32, jnp.float32), (jnp.bfloat16, jnp.bfloat16), (jnp.bfloat16, jnp.float32)]


def drawn(hidden_dtype, head_dtype):
    draw = np.random.default_rng(0).standard_normal
    hidden, head = jnp.asarray(draw((2, 3, 64)), hidden_dtype), jnp.asarray(draw((64, 300)) / 8, head_dtype)
    return hidden, head, jnp.asarray(draw((2, 3, 300)), jnp.float32)


@pytest.mark.parametrize(("hidden_dtype", "head_dtype"), DTYPES)
def test_results_are_float32_and_gradients_are_those_of_the_product(hidden_dtype, head_dtype):
    hidden, head, cotangent = drawn(hidden_dtype, head_dtype)
    result, pull = jax.vjp(head_product, hidden, head)
    to_hidden, to_head = pull(cotangent)
    assert (result.dtype, to_hidden.dtype, to_head.dtype) == (jnp.float32, hidden_dtype, head_dtype)

    exact = [np.asarray(each, np.float64) for each in (hidden, head, cotangent)]
    digits = 1e-6 if hidden_dtype == jnp.float32 else 2**-8
    np.testing.assert_allclose(result, exact[0] @ exact[1], rtol=1e-5, atol=1e-5)
    for found, wanted in (
        (to_hidden, exact[2] @ exact[1].T),
        (to_head, np.einsum("btd,btv->dv", exact[0], exact[2])),
    ):
        assert np.linalg.norm(np.float64(found) - wanted) < digits * np.linalg.norm(wanted)


def test_no_product_of_the_gradient_mixes_number_formats():
    hidden, head, cotangent = drawn(jnp.bfloat16, jnp.bfloat16)

    def to_hidden(hidden):
        return jax.vjp(lambda hidden: head_product(hidden, head), hidden)[1](cotangent)

    products = [
        equation
        for equation in jax.make_jaxpr(to_hidden)(hidden).eqns
        if equation.primitive.name == "dot_general"
    ]
    formats = [{str(operand.aval.dtype) for operand in product.invars} for product in products]
    assert formats
    assert all(len(each) == 1 for each in formats)
