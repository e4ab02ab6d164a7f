"""Targeted-SAM: sharpness-aware minimisation of one loss among several."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Mask = Any | Callable[[optax.Params], Any]


class TargetedSamState(NamedTuple):
    """What the last update saw, kept so that it can be logged; none of it enters the next update.

    Attributes:
      neg_grad_norm: float32[], ‖∇L_neg(θ)‖₂ over the perturbed leaves.
      eps_norm: float32[], ‖ε*‖₂: `rho`, or 0 where ∇L_neg(θ) is zero.
      cosine: float32[], cosine between ∇L_neg(θ) and ∇L_neg(θ+ε*) over the perturbed leaves; 1 means that the
        loss is flat or linear there, 0 stands in where one of them is zero.
    """

    neg_grad_norm: jax.Array
    eps_norm: jax.Array
    cosine: jax.Array


def targeted_sam(
    rho: jax.typing.ArrayLike, neg_weight: jax.typing.ArrayLike, mask: Mask | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the gradient of one loss, taken where that loss is worst nearby, to the gradient of the others.

    Of an objective :math:`\lambda_1 L_{neg} + L_{retain}` only :math:`L_{neg}` is made robust against small
    changes of the parameters :math:`\theta`:

    .. math::

      \epsilon^* &= \rho\, \nabla L_{neg}(\theta) \,/\, \|\nabla L_{neg}(\theta)\|_2 \\
      g &= \lambda_1 \nabla L_{neg}(\theta + \epsilon^*) + \nabla L_{retain}(\theta)

    The transform turns the incoming :math:`\nabla L_{retain}(\theta)` into :math:`g` and leaves the step
    itself to the optimizer behind it in the chain.

    Sign: :math:`\epsilon^*` points where :math:`L_{neg}` *rises*. In unlearning by gradient ascent
    :math:`L_{neg} = -L_{ft}`, with :math:`L_{ft}` the negative log-likelihood of what is to be forgotten; so
    at :math:`\theta + \epsilon^*` that is *likelier* than at :math:`\theta` (:math:`L_{ft}` falls by
    :math:`\rho \|\nabla L_{neg}\|` to first order), as it would be after an attack.

    Norm: one L2 norm over all perturbed leaves together, taken in float32 and scaled by the largest entry, so
    that it neither overflows nor underflows; half-precision gradients are fine. A gradient that is zero, or
    below the smallest normal float32, gives :math:`\epsilon^* = 0` and never NaN. Neither :math:`\lambda_1`
    nor the scale of :math:`L_{neg}` changes :math:`\epsilon^*`. Under `jax.jit` with sharded data the norm is
    that of the global batch, whatever the number of devices; under `pmap` or `shard_map` the caller averages
    gradients inside `neg_grad_fn`.

    The transform stands outside of `optax.masked` and `optax.partition`, since `neg_grad_fn` needs whole
    parameters. Clipping belongs behind it. Accumulate micro-batches inside `neg_grad_fn`: `optax.MultiSteps`
    around it would perturb by the last micro-batch alone.

    Args:
      rho: radius :math:`\rho \ge 0` of the ball, in units of the parameters; a number or a float array of
        rank 0. With 0 the update is :math:`\lambda_1 \nabla L_{neg}(\theta) + \nabla L_{retain}(\theta)`.
      neg_weight: :math:`\lambda_1`; a number or a float array of rank 0.
      mask: which leaves are perturbed and counted in the norm: a tree of booleans with the structure of the
        parameters or a prefix of it, or a function from parameters to such a tree. Leaves left out still
        receive both gradients. None perturbs all.

    Returns:
      An `optax.GradientTransformationExtraArgs`. Its update is called as
      `tx.update(retain_grads, state, params, neg_grad_fn=f)`, where

      * `retain_grads` is :math:`\nabla L_{retain}(\theta)`; the result has its dtypes;
      * `neg_grad_fn` maps any parameters to :math:`\nabla L_{neg}` at them; it is called once, at
        :math:`\theta + \epsilon^*`, and once more, before that, at :math:`\theta`, unless
      * `neg_grads`, optional, hands over :math:`\nabla L_{neg}(\theta)` that the caller has already.

      Other extra arguments are ignored, so that they can be meant for the rest of a chain.

    Raises:
      ValueError: `rho` is negative; or, at init or update, parameters or `neg_grad_fn` are missing, or a
        `MaskedNode` is among the parameters or gradients.

    Examples:
      Two losses of one parameter vector, the first to be made robust:

      >>> import jax, jax.numpy as jnp, optax
      >>> from sare_jax.optim import targeted_sam
      >>> neg_loss = lambda params: 0.5 * jnp.sum(params ** 2)
      >>> retain_loss = lambda params: 0.5 * jnp.sum((params - 1.0) ** 2)
      >>> tx = optax.chain(targeted_sam(rho=0.05, neg_weight=0.3), optax.sgd(0.5))
      >>> params = jnp.array([3.0, 4.0])
      >>> state = tx.init(params)
      >>> for _ in range(20):
      ...     updates, state = tx.update(
      ...         jax.grad(retain_loss)(params), state, params, neg_grad_fn=jax.grad(neg_loss))
      ...     params = optax.apply_updates(params, updates)
      >>> print(f"{params[0]:.3f} {params[1]:.3f}, radius {state[0].eps_norm:.2f}")
      0.761 0.761, radius 0.05

    References:
      Foret et al., `Sharpness-Aware Minimization for Efficiently Improving Generalization
      <https://arxiv.org/abs/2010.01412>`_, 2021; Fan et al., `Towards LLM Unlearning Resilient to Relearning
      Attacks <https://arxiv.org/abs/2502.05374>`_, 2025; SARE, Eq. 5-8.
    """
    if isinstance(rho, (int, float)) and rho < 0:
        raise ValueError(f"targeted_sam: rho must not be negative, got {rho}")

    def init_fn(params: optax.Params) -> TargetedSamState:
        _reject_masked(params)
        return TargetedSamState(*(jnp.zeros((), jnp.float32) for _ in TargetedSamState._fields))

    def update_fn(
        updates: optax.Updates,
        state: TargetedSamState,
        params: optax.Params | None = None,
        *,
        neg_grad_fn: Callable[[optax.Params], optax.Updates] | None = None,
        neg_grads: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, TargetedSamState]:
        del state, extra_args
        if params is None or neg_grad_fn is None:
            raise ValueError("targeted_sam: call update(retain_grads, state, params, neg_grad_fn=f)")
        _reject_masked((updates, params))
        if neg_grads is None:
            neg_grads = neg_grad_fn(params)
        perturbed = _perturbed_leaves(mask, params)

        direction, neg_grad_norm = _normalise(_select(neg_grads, perturbed))
        eps = jax.tree.map(lambda d: jnp.asarray(rho, d.dtype) * d, direction)
        sharp_grads = neg_grad_fn(jax.tree.map(_add, params, eps))

        sharp_direction, _ = _normalise(_select(sharp_grads, perturbed))
        g = jax.tree.map(lambda retain, sharp: _add(retain, neg_weight * _wide(sharp)), updates, sharp_grads)
        _, eps_norm = _normalise(eps)
        return g, TargetedSamState(neg_grad_norm, eps_norm, _inner(direction, sharp_direction))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _wide(x: jax.Array) -> jax.Array:
    """In float32, or in its own dtype where that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _add(x: jax.Array, y: jax.Array) -> jax.Array:
    """Sum in the wide dtype, stored as `x` was."""
    return (_wide(x) + y).astype(x.dtype)


def _reject_masked(tree: Any) -> None:
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
    if any(isinstance(leaf, optax.MaskedNode) for leaf in leaves):
        raise ValueError(
            "targeted_sam: met a MaskedNode. Put it outside of optax.masked and optax.partition (it needs "
            "whole parameters), and use its own `mask` to choose the leaves that are perturbed"
        )


def _perturbed_leaves(mask: Mask | None, params: optax.Params) -> optax.Params:
    """A tree like `params` with a Python bool a leaf."""
    if mask is None:
        return jax.tree.map(lambda _: True, params)
    return jax.tree.broadcast(mask(params) if callable(mask) else mask, params)


def _select(tree: optax.Updates, chosen: optax.Params) -> optax.Updates:
    """`tree` in the wide dtype, with zeros at leaves that are not chosen."""
    return jax.tree.map(lambda x, keep: _wide(x) if keep else jnp.zeros_like(_wide(x)), tree, chosen)


def _normalise(tree: optax.Updates) -> tuple[optax.Updates, jax.Array]:
    """The unit vector along a tree in the wide dtype, and the float32 norm; zeros for a zero tree.

    Dividing by the largest entry first keeps squares in range. Both `where`s are before the operation that
    zero would break, so that derivatives are finite too.
    """
    peaks = [jnp.max(jnp.abs(x), initial=0).astype(jnp.float32) for x in jax.tree.leaves(tree)]
    largest = jnp.stack(peaks).max()
    zero = largest < jnp.finfo(jnp.float32).tiny  # subnormals may be flushed to zero, then 0/0
    scale = jnp.where(zero, 1, largest)
    scaled = jax.tree.map(lambda x: jnp.where(zero, 0, x / scale.astype(x.dtype)), tree)
    squares = sum(jnp.sum(jnp.abs(x) ** 2, dtype=jnp.float32) for x in jax.tree.leaves(scaled))
    unit_norm = jnp.sqrt(jnp.where(zero, 1, squares))
    direction = jax.tree.map(lambda x: x / unit_norm.astype(x.dtype), scaled)
    return direction, jnp.where(zero, 0, scale * unit_norm)


def _inner(x: optax.Updates, y: optax.Updates) -> jax.Array:
    """float32 inner product of two trees."""
    products = jax.tree.map(lambda a, b: jnp.sum(a * b, dtype=jnp.float32), x, y)
    return jnp.asarray(sum(jax.tree.leaves(products)), jnp.float32)
