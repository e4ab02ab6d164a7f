"""The memory of Targeted-SAM between two perturbations: how the last one changed the gradient of L_neg."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim import trees


class SharpMemory(NamedTuple):
    r"""The change :math:`h = \nabla L_{neg}(\theta + \epsilon^*) - \nabla L_{neg}(\theta)`, last measured.

    A refresh is a step that finds ε*. For `recall` h is kept in two parts, along ∇L_neg(θ) and across it,
    since the first follows the gradient's direction as that changes; for `recall_whole` it is kept as one.

    Attributes:
      left: int32[], steps until the next refresh; 0 means that the next step is one.
      neg_grad_norm: float32[], ‖∇L_neg(θ)‖₂ over the perturbed leaves at the last refresh; 0 before the
        first.
      along: float32[], ⟨h, d⟩, with d the unit vector along ∇L_neg(θ); 0 where h is kept as one.
      across: tree like the parameters in float32 or wider: h − ⟨h, d⟩ d, or the whole h.
    """

    left: jax.Array
    neg_grad_norm: jax.Array
    along: jax.Array
    across: optax.Updates


def blank(params: optax.Params) -> SharpMemory:
    """The memory before the first refresh: zeros, with a refresh due in the next step."""
    across = jax.tree.map(lambda x: jnp.zeros_like(trees.wide(x)), params)
    left, neg_grad_norm, along = (jnp.zeros((), dtype) for dtype in (jnp.int32, jnp.float32, jnp.float32))
    return SharpMemory(left, neg_grad_norm, along, across)


def remember(
    sharp_grads: optax.Updates,
    neg_grads: optax.Updates,
    direction: optax.Updates,
    neg_grad_norm: jax.Array,
    *,
    left: int,
    whole: bool,
) -> SharpMemory:
    """The memory after a refresh.

    Args:
      sharp_grads: ∇L_neg(θ+ε*), a tree like the parameters.
      neg_grads: ∇L_neg(θ), a tree like the parameters.
      direction: unit vector along ∇L_neg(θ), zeros at leaves that are not perturbed.
      neg_grad_norm: float32[], ‖∇L_neg(θ)‖₂ over the perturbed leaves.
      left: steps until the next refresh.
      whole: True keeps h as one, for `recall_whole`; False divides it, for `recall`.
    """
    change = jax.tree.map(lambda s, n: trees.wide(s) - trees.wide(n), sharp_grads, neg_grads)
    along = jnp.zeros((), jnp.float32) if whole else trees.inner(change, direction)
    across = jax.tree.map(lambda c, d: c - along.astype(d.dtype) * d, change, direction)
    return SharpMemory(jnp.asarray(left, jnp.int32), neg_grad_norm, along, across)


def recall(
    memory: SharpMemory, neg_grads: optax.Updates, direction: optax.Updates, neg_grad_norm: jax.Array
) -> optax.Updates:
    r"""An estimate of ∇L_neg(θ+ε*) from ∇L_neg(θ) and the memory, in float32 or wider.

    .. math:: g + \frac{\|g\|}{\|g_{then}\|} (\langle h, d_{then} \rangle\, d + h_\perp)

    with :math:`g = \nabla L_{neg}(\theta)` and :math:`d = g / \|g\|` now, and :math:`g_{then}`,
    :math:`d_{then}` at the last refresh. It is exact while parameters and batch are those of the refresh.
    LookSAM (Liu et al. 2022) adds :math:`\alpha \|g\|\, h_\perp / \|h_\perp\|` with a constant :math:`\alpha`
    instead. That is far too much for an objective of probabilities, whose curvature vanishes together with
    its gradient as :math:`P \to 1`, and under unlikelihood and NPO as :math:`P \to 0`; hence the ratio of
    norms.

    Args:
      memory: the last refresh, as `remember` keeps it with `whole` False.
      neg_grads: ∇L_neg(θ), a tree like the parameters.
      direction: unit vector along ∇L_neg(θ), zeros at leaves that are not perturbed.
      neg_grad_norm: float32[], ‖∇L_neg(θ)‖₂ over the perturbed leaves; with 0, and before the first refresh,
        nothing is added.
    """
    refreshed = memory.neg_grad_norm > 0
    ratio = jnp.where(refreshed, neg_grad_norm / jnp.where(refreshed, memory.neg_grad_norm, 1), 0)
    return jax.tree.map(
        lambda n, d, v: trees.wide(n) + ratio.astype(d.dtype) * (memory.along.astype(d.dtype) * d + v),
        neg_grads,
        direction,
        memory.across,
    )


def recall_whole(memory: SharpMemory, neg_grads: optax.Updates, some: jax.Array) -> optax.Updates:
    """∇L_neg(θ) + h, in float32 or wider: an estimate of ∇L_neg(θ+ε*) that is linear in ∇L_neg(θ).

    Args:
      memory: the last refresh, as `remember` keeps it with `whole` True.
      neg_grads: ∇L_neg(θ), a tree like the parameters.
      some: bool[], whether the batch has negatives. Without any, L_neg is 0 everywhere, and h is not added.
    """
    return jax.tree.map(lambda n, h: trees.wide(n) + jnp.where(some, h, 0), neg_grads, memory.across)
