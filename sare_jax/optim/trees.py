"""Arithmetic on parameter trees that keeps norms in float32 and zero gradients harmless."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

# A tree of booleans with the structure of the parameters or a prefix of it, or a function that makes one.
Mask = Any | Callable[[optax.Params], Any]
Norm = Literal["global", "leaf"]


def wide(x: jax.Array) -> jax.Array:
    """In float32, or in its own dtype where that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def add(x: optax.Params, y: optax.Params) -> optax.Params:
    """Sum in the wide dtype, stored as `x` was."""
    return jax.tree.map(lambda a, b: (wide(a) + wide(b)).astype(a.dtype), x, y)


def scale(tree: optax.Updates, factor: jax.typing.ArrayLike) -> optax.Updates:
    """Each leaf times a number, in the leaf's dtype."""
    return jax.tree.map(lambda x: x * jnp.asarray(factor, x.dtype), tree)


def combine(retain: optax.Updates, neg: optax.Updates, neg_weight: jax.typing.ArrayLike) -> optax.Updates:
    r""":math:`\lambda_1 g_{neg} + g_{retain}` in the wide dtype, stored as `retain` was."""
    return jax.tree.map(lambda r, n: (wide(r) + neg_weight * wide(n)).astype(r.dtype), retain, neg)


def check_call(name: str, updates: optax.Updates, params: optax.Params | None, neg_grad_fn: Any) -> None:
    """Raises ValueError where a transform of this package lacks what it needs.

    Args:
      name: of the transform.
      updates: the retention gradient.
      params: θ.
      neg_grad_fn: the gradient of L_neg as a function.
    """
    if params is None or neg_grad_fn is None:
        raise ValueError(f"{name}: call update(retain_grads, state, params, neg_grad_fn=f)")
    reject_masked(name, (updates, params))


def reject_masked(name: str, tree: Any) -> None:
    """Raises ValueError where `optax.masked` or `optax.partition` has left a hole in a tree."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
    if any(isinstance(leaf, optax.MaskedNode) for leaf in leaves):
        raise ValueError(
            f"{name}: met a MaskedNode. Put it outside of optax.masked and optax.partition (it needs "
            "whole parameters), and use its own `mask` to choose the leaves that are perturbed"
        )


def perturbed_leaves(mask: Mask | None, params: optax.Params) -> optax.Params:
    """A tree like `params` with a Python bool a leaf."""
    if mask is None:
        return jax.tree.map(lambda _: True, params)
    return jax.tree.broadcast(mask(params) if callable(mask) else mask, params)


def select(tree: optax.Updates, chosen: optax.Params) -> optax.Updates:
    """`tree` in the wide dtype, with zeros at leaves that are not chosen."""
    return jax.tree.map(lambda x, keep: wide(x) if keep else jnp.zeros_like(wide(x)), tree, chosen)


def normalise(tree: optax.Updates) -> tuple[optax.Updates, jax.Array]:
    """The unit vector along a tree in the wide dtype, and the float32 norm; zeros for a zero tree.

    Dividing by the largest entry first keeps squares in range. Both `where`s are before the operation that
    zero would break, so that derivatives are finite too.
    """
    peaks = [jnp.max(jnp.abs(x), initial=0).astype(jnp.float32) for x in jax.tree.leaves(tree)]
    largest = jnp.stack(peaks).max()
    zero = largest < jnp.finfo(jnp.float32).tiny  # subnormals may be flushed to zero, then 0/0
    peak = jnp.where(zero, 1, largest)
    scaled = jax.tree.map(lambda x: jnp.where(zero, 0, x / peak.astype(x.dtype)), tree)
    squares = sum(jnp.sum(jnp.abs(x) ** 2, dtype=jnp.float32) for x in jax.tree.leaves(scaled))
    unit_norm = jnp.sqrt(jnp.where(zero, 1, squares))
    direction = jax.tree.map(lambda x: x / unit_norm.astype(x.dtype), scaled)
    return direction, jnp.where(zero, 0, peak * unit_norm)


def normalise_by(norm: Norm, tree: optax.Updates) -> tuple[optax.Updates, optax.Updates]:
    """As `normalise`, with one norm over all leaves or one a leaf; the norms come as a tree."""
    if norm == "global":
        direction, length = normalise(tree)
        return direction, jax.tree.map(lambda _: length, tree)
    leaves, structure = jax.tree.flatten(tree)
    pairs = [normalise(leaf) for leaf in leaves]
    return tuple(jax.tree.unflatten(structure, part) for part in zip(*pairs, strict=True))


def inner(x: optax.Updates, y: optax.Updates) -> jax.Array:
    """float32 inner product of two trees."""
    products = jax.tree.map(lambda a, b: jnp.sum(a * b, dtype=jnp.float32), x, y)
    return jnp.asarray(sum(jax.tree.leaves(products)), jnp.float32)
