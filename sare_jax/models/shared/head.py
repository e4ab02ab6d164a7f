"""The product with the head, whose results are float32 whatever the weights are."""

import jax
import jax.numpy as jnp


def head_product(hidden: jax.Array, head: jax.Array) -> jax.Array:
    """float[..., D] @ float[D, V] -> float32[..., V].

    The gradient with respect to 16-bit hidden states is a product in their dtype, summed in float32. The one
    that jax derives multiplies float32 with 16 bits, for which XLA may keep the head a second time, in
    float32.
    """
    if hidden.dtype == jnp.float32:
        return _product(hidden, head)
    return _narrow(hidden, head)


def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.matmul(x, y, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _narrow(hidden: jax.Array, head: jax.Array) -> jax.Array:
    return _product(hidden, head)


def _forward(hidden: jax.Array, head: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(hidden, head), (hidden, head)


def _backward(kept: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    hidden, head = kept
    to_hidden = _product(cotangent.astype(hidden.dtype), head.T).astype(hidden.dtype)
    # Only a head that is trained needs its own, and then it is float32 itself.
    to_head = jnp.einsum("...D,...V->DV", hidden.astype(jnp.float32), cotangent).astype(head.dtype)
    return to_hidden, to_head


_narrow.defvjp(_forward, _backward)
