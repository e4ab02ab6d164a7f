"""The memory of Targeted-SAM between two perturbations: what the last one did to the gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim import trees


class SharpMemory(NamedTuple):
    r"""The change :math:`h = \nabla L_{neg}(\theta + \epsilon^*) - \nabla L_{neg}(\theta)` when last seen.

    It is in two parts where one of them is to turn with the gradient.

    Attributes:
      left: int32[], steps until it is to be refreshed; 0 means now.
      neg_grad_norm: float32[], ‖∇L_neg(θ)‖₂ over the perturbed leaves when h was seen; 0 before that.
      along: float32[], ⟨h, d⟩, with d the unit vector along ∇L_neg(θ); 0 where h is kept whole.
      across: tree of the parameters in the wide dtype, h − ⟨h, d⟩ d, or the whole h.
    """

    left: jax.Array
    neg_grad_norm: jax.Array
    along: jax.Array
    across: optax.Updates


def blank(params: optax.Params) -> SharpMemory:
    """A memory of nothing, due at once."""
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
    """What a perturbation did.

    Args:
      sharp_grads: ∇L_neg(θ+ε*).
      neg_grads: ∇L_neg(θ).
      direction: unit vector along ∇L_neg(θ), zeros at leaves that are not perturbed.
      neg_grad_norm: float32[], its length.
      left: steps for which it is to last.
      whole: for `recall_whole`, else for `recall`.
    """
    change = jax.tree.map(lambda s, n: trees.wide(s) - trees.wide(n), sharp_grads, neg_grads)
    along = jnp.zeros((), jnp.float32) if whole else trees.inner(change, direction)
    across = jax.tree.map(lambda c, d: c - along.astype(d.dtype) * d, change, direction)
    return SharpMemory(jnp.asarray(left, jnp.int32), neg_grad_norm, along, across)


def recall(
    memory: SharpMemory, neg_grads: optax.Updates, direction: optax.Updates, neg_grad_norm: jax.Array
) -> optax.Updates:
    r"""An estimate of ∇L_neg(θ+ε*) from ∇L_neg(θ) alone, in the wide dtype.

    .. math:: g + \frac{\|g\|}{\|g_{then}\|} (\langle h, d_{then} \rangle\, d + h_\perp)

    with :math:`g = \nabla L_{neg}(\theta)`, exact where nothing has changed since. LookSAM (Liu et al. 2022)
    has :math:`\alpha\, h_\perp / \|h_\perp\|` with a constant :math:`\alpha` in place of the bracket over
    :math:`\|g_{then}\|`; an objective of probabilities is nowhere near so sharp. Its curvature vanishes with
    its gradient as :math:`P \to 1`, and under unlikelihood and NPO as :math:`P \to 0`, hence the ratio of
    norms.

    Args:
      memory: what `remember` kept of the last perturbation.
      neg_grads: ∇L_neg(θ).
      direction: unit vector along it, zeros at leaves that are not perturbed.
      neg_grad_norm: float32[], its length; with 0, and before the first perturbation, nothing is added.
    """
    seen = memory.neg_grad_norm > 0
    ratio = jnp.where(seen, neg_grad_norm / jnp.where(seen, memory.neg_grad_norm, 1), 0)
    return jax.tree.map(
        lambda n, d, v: trees.wide(n) + ratio.astype(d.dtype) * (memory.along.astype(d.dtype) * d + v),
        neg_grads,
        direction,
        memory.across,
    )


def recall_whole(memory: SharpMemory, neg_grads: optax.Updates, some: jax.Array) -> optax.Updates:
    """∇L_neg(θ) + h, in the wide dtype: an estimate of ∇L_neg(θ+ε*) that is linear in ∇L_neg(θ).

    Args:
      memory: what `remember` kept of the last perturbation.
      neg_grads: ∇L_neg(θ).
      some: bool[], whether the batch has negatives; without them h, an estimate, gives way to the exact 0.
    """
    return jax.tree.map(lambda n, h: trees.wide(n) + jnp.where(some, h, 0), neg_grads, memory.across)
