"""Arithmetic on parameter trees that keeps norms in float32 and zero gradients harmless."""

import sys
import types
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

# A tree of booleans with the structure of the parameters or a prefix of it, or a function that makes one.
Mask = Any | Callable[[optax.Params], Any]
Norm = Literal["global", "leaf"]
# Parameters → the gradient of a loss at them.
GradFn = Callable[[optax.Params], optax.Updates]

# A compiler may divide by multiplying with the inverse, which is subnormal, and so flushed, above 2^126.
_LARGEST_DIVISOR = 2.0**125


def wide(x: jax.Array) -> jax.Array:
    """`x` in the wide dtype: float32, or its own dtype if that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def add(x: optax.Params, y: optax.Params) -> optax.Params:
    """Sum in the wide dtype, stored as `x` was."""
    return jax.tree.map(lambda a, b: (wide(a) + wide(b)).astype(a.dtype), x, y)


def added(params: optax.Params, eps: optax.Updates, moved: optax.Params) -> optax.Updates:
    """`moved = add(params, eps)` less `params`: not quite `eps` where a narrow dtype rounds it."""
    return jax.tree.map(lambda p, e, m: e if p.dtype == e.dtype else wide(m) - wide(p), params, eps, moved)


def scale(tree: optax.Updates, factor: jax.typing.ArrayLike) -> optax.Updates:
    """Each leaf times a number, in the leaf's dtype."""
    return jax.tree.map(lambda x: x * jnp.asarray(factor, x.dtype), tree)


def combine(retain: optax.Updates, neg: optax.Updates, neg_weight: jax.typing.ArrayLike) -> optax.Updates:
    r""":math:`\lambda_1 g_{neg} + g_{retain}` in the wide dtype, stored as `retain` was."""
    return jax.tree.map(lambda r, n: (wide(r) + neg_weight * wide(n)).astype(r.dtype), retain, neg)


def check_init(name: str, params: optax.Params) -> None:
    """Raises ValueError if the parameters are empty or have holes, or if the caller is `optax.MultiSteps`."""
    reject_masked(name, params)
    if not jax.tree.leaves(params):
        raise ValueError(f"{name}: the tree of parameters is empty")
    # MultiSteps would pass the mean of the retention gradients with the last micro-batch's `neg_grad_fn`.
    # No argument shows that, so its `init` is looked for among the callers.
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), optax.MultiSteps):
            raise ValueError(
                f"{name}: inside of optax.MultiSteps it would see L_neg of the last micro-batch alone; "
                "accumulate inside neg_grad_fn and the retention gradient instead"
            )
        frame = frame.f_back


def check_call(
    name: str, updates: optax.Updates, params: optax.Params | None, neg_grad_fn: GradFn | None
) -> GradFn:
    """Raises ValueError if `params` or `neg_grad_fn` are missing, or if a tree has holes.

    Args:
      name: how the message calls the transform.
      updates: ∇L_retain(θ).
      params: θ, or None where the caller gave none.
      neg_grad_fn: parameters → ∇L_neg at them, or None where the caller gave none.

    Returns:
      `neg_grad_fn`, wrapped so that its results are checked to be like the parameters.
    """
    if params is None or neg_grad_fn is None:
        raise ValueError(f"{name}: call update(retain_grads, state, params, neg_grad_fn=f)")
    reject_masked(name, (updates, params))
    return gradient_fn(name, neg_grad_fn)


def gradient_fn(name: str, function: GradFn) -> GradFn:
    """`function`, whose results are checked to be like the parameters."""

    def checked(params: optax.Params) -> optax.Updates:
        return like_params(name, "neg_grad_fn gave", function(params), params)

    return checked


def like_params(name: str, what: str, grads: optax.Updates, params: optax.Params) -> optax.Updates:
    """`grads`; raises ValueError where they are no tree like the parameters."""
    given: Any = jax.tree.structure(grads)
    wanted: Any = jax.tree.structure(params)
    if given != wanted:
        aux = isinstance(grads, tuple) and len(grads) == 2 and jax.tree.structure(grads[0]) == wanted
        advice = "; of jax.grad(…, has_aux=True) give the gradient alone" if aux else ""
        raise ValueError(f"{name}: {what} {given}, expected a gradient like the parameters, {wanted}{advice}")
    return grads


def radius(name: str, value: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    """A length ≥ 0, as an argument of a transform.

    Args:
      name: how the message calls the argument.
      value: a number, or an array of rank 0.

    Returns:
      The value; a negative one that is traced counts as 0, since it cannot be refused.

    Raises:
      ValueError: the value is negative, or of less than float32.
    """
    wide_enough(name, value)
    if isinstance(value, jax.core.Tracer):
        return jnp.maximum(value, 0)
    number: Any = value
    if float(number) < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return value


def wide_enough(name: str, value: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    """`value`; raises ValueError where it has less than float32's precision."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        raise ValueError(
            f"{name} came rounded to {dtype}; optax.inject_hyperparams gives numbers the parameters' dtype, "
            "unless called with hyperparam_dtype=jnp.float32"
        )
    return value


def reject_masked(name: str, tree: Any) -> None:
    """Raises ValueError where `optax.masked` or `optax.partition` has left a hole in a tree."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
    if any(isinstance(leaf, optax.MaskedNode) for leaf in leaves):
        raise ValueError(
            f"{name}: met a MaskedNode. Put it outside of optax.masked and optax.partition (it needs "
            "whole parameters), and use its own `mask` to choose the leaves that are perturbed"
        )


def perturbed_leaves(name: str, mask: Mask | None, params: optax.Params) -> optax.Params:
    """A tree like `params` with a Python bool a leaf.

    Raises:
      ValueError: the mask is a single value, has leaves that are no booleans, or chooses nothing.
    """
    if mask is None:
        return jax.tree.map(lambda _: True, params)
    chosen = mask(params) if callable(mask) else mask
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(chosen)):
        raise ValueError(
            f"{name}: mask is a single value, expected a tree of booleans or a function that makes one (None "
            "for all). optax.inject_hyperparams calls a function as if it were a schedule, unless it is "
            "given static_args='mask'"
        )
    if not all(_is_boolean(leaf) for leaf in jax.tree.leaves(chosen)):
        raise ValueError(f"{name}: mask has leaves that are not True or False")
    if not any(jax.tree.leaves(chosen)):
        raise ValueError(f"{name}: mask chooses no parameter")
    return jax.tree.map(bool, jax.tree.broadcast(chosen, params))


def _is_boolean(value: Any) -> bool:
    """Whether a value is True or False here and now, of Python or of NumPy."""
    return isinstance(value, bool) or (
        str(getattr(value, "dtype", "")) == "bool" and not isinstance(value, jax.core.Tracer)
    )


def select(tree: optax.Updates, chosen: optax.Params) -> optax.Updates:
    """`tree` in the wide dtype, with zeros at leaves that are not chosen."""
    return jax.tree.map(lambda x, keep: wide(x) if keep else jnp.zeros_like(wide(x)), tree, chosen)


def normalise(tree: optax.Updates) -> tuple[optax.Updates, jax.Array]:
    """The unit vector along a tree in the wide dtype, and the float32 norm; zeros for a zero tree.

    Dividing by the largest entry first keeps squares in range; a norm beyond float32's largest number is
    given as that number. Zeros are replaced before a division or root, not after it, so that derivatives are
    finite too.
    """
    peaks = [jnp.max(jnp.abs(x), initial=0).astype(jnp.float32) for x in jax.tree.leaves(tree)]
    largest = jnp.stack(peaks).max()
    zero = largest < jnp.finfo(jnp.float32).tiny  # subnormals may be flushed to zero, then 0/0
    peak = jnp.where(zero, 1, jnp.minimum(largest, _LARGEST_DIVISOR))
    scaled = jax.tree.map(lambda x: jnp.where(zero, 0, x / peak.astype(x.dtype)), tree)
    squares = sum(jnp.sum(jnp.abs(x) ** 2, dtype=jnp.float32) for x in jax.tree.leaves(scaled))
    unit_norm = jnp.sqrt(jnp.where(zero, 1, squares))
    direction = jax.tree.map(lambda x: x / unit_norm.astype(x.dtype), scaled)
    # Infinite entries give an infinite norm; finite ones never do, even if their norm exceeds float32.
    norm = jnp.minimum(peak * unit_norm, jnp.finfo(jnp.float32).max)
    return direction, jnp.where(zero, 0, jnp.where(jnp.isfinite(largest), norm, largest))


def normalise_by(norm: Norm, tree: optax.Updates) -> tuple[optax.Updates, optax.Updates]:
    """As `normalise`, with one norm over all leaves (`global`) or one for each; the norms are a tree."""
    if norm == "global":
        direction, length = normalise(tree)
        return direction, jax.tree.map(lambda _: length, tree)
    leaves, structure = jax.tree.flatten(tree)
    directions, lengths = zip(*map(normalise, leaves), strict=True)
    return jax.tree.unflatten(structure, directions), jax.tree.unflatten(structure, lengths)


def inner(x: optax.Updates, y: optax.Updates) -> jax.Array:
    """float32 inner product of two trees."""
    products = jax.tree.map(lambda a, b: jnp.sum(a * b, dtype=jnp.float32), x, y)
    return jnp.asarray(sum(jax.tree.leaves(products)), jnp.float32)
