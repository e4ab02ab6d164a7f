"""Smooth relatives of Targeted-SAM (Fan et al. 2025), with the same call."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim import trees


class GradientNormState(NamedTuple):
    """Measures of the latest update, for logging; no update reads them.

    Attributes:
      neg_grad_norm: float32[], ‖∇L_neg(θ)‖₂ over the penalised leaves.
      curvature: float32[], dᵀHd, with d the unit vector along ∇L_neg(θ): the rate at which the gradient's
        norm changes along it.
    """

    neg_grad_norm: jax.Array
    curvature: jax.Array


class SmoothedState(NamedTuple):
    """State of `randomized_smoothing`.

    Attributes:
      key: PRNG key of the next update.
      neg_grad_norm: float32[], norm of the mean gradient over the moved leaves, for logging.
    """

    key: jax.Array
    neg_grad_norm: jax.Array


def gradient_norm_penalty(
    rho: jax.typing.ArrayLike, neg_weight: jax.typing.ArrayLike, *, mask: trees.Mask | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Penalises the norm of one loss's gradient exactly, where `targeted_sam` does it to first order.

    It turns :math:`\nabla L_{retain}` into the gradient of
    :math:`\lambda_1 (L_{neg} + \rho \|\nabla L_{neg}\|_2) + L_{retain}` (SARE, Eq. 11 and 13):

    .. math:: \lambda_1 (g + \rho\, H g / \|g\|_2) + \nabla L_{retain}, \qquad g = \nabla L_{neg}(\theta)

    The Hessian-vector product is a forward derivative of `neg_grad_fn`, which costs about two further
    gradients and forms no matrix. Where the gradient is zero, the product is taken as zero.

    Args:
      rho: weight :math:`\rho \ge 0` of the norm; a number or a float array of rank 0.
      neg_weight: :math:`\lambda_1`; a number or a float array of rank 0.
      mask: which leaves count in the norm; as in `targeted_sam`.

    Returns:
      A transform that is called as `targeted_sam` is. `neg_grad_fn` must have a forward derivative: no
      `jax.custom_vjp` inside. Under `optax.inject_hyperparams`, name a `mask` in `static_args`.

    Raises:
      ValueError: `rho` is negative; or, at init or update, as in `targeted_sam`.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from sare_jax.optim import gradient_norm_penalty
      >>> neg_grad_fn = jax.grad(lambda x: jnp.sum(x ** 2))  # g = 2x, H = 2
      >>> params = jnp.array([3.0, 4.0])
      >>> tx = gradient_norm_penalty(rho=0.5, neg_weight=1.0)
      >>> tx.update(jnp.zeros(2), tx.init(params), params, neg_grad_fn=neg_grad_fn)[0].tolist()
      [6.599999904632568, 8.800000190734863]
    """
    name = "gradient_norm_penalty"
    rho, neg_weight = trees.radius(f"{name}: rho", rho), trees.wide_enough(f"{name}: neg_weight", neg_weight)

    def init_fn(params: optax.Params) -> GradientNormState:
        trees.check_init(name, params)
        trees.perturbed_leaves(name, mask, params)
        return GradientNormState(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))

    def update_fn(
        updates: optax.Updates,
        state: GradientNormState,
        params: optax.Params | None = None,
        *,
        neg_grad_fn: trees.GradFn | None = None,
        neg_grads: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, GradientNormState]:
        del state, extra_args
        neg_grad_at = trees.check_call(name, updates, params, neg_grad_fn)
        if neg_grads is None:
            neg_grads = neg_grad_at(params)
        chosen = trees.perturbed_leaves(name, mask, params)
        direction, norm = trees.normalise(trees.select(neg_grads, chosen))
        tangent = jax.tree.map(lambda d, p: d.astype(p.dtype), direction, params)
        _, product = jax.jvp(neg_grad_at, (params,), (tangent,))
        product = jax.tree.map(trees.wide, product)
        penalised = jax.tree.map(
            lambda n, h: trees.wide(n) + jnp.asarray(rho, h.dtype) * h, neg_grads, product
        )
        measures = GradientNormState(norm, trees.inner(direction, product))
        return trees.combine(updates, penalised, neg_weight), measures

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def randomized_smoothing(
    sigma: jax.typing.ArrayLike,
    neg_weight: jax.typing.ArrayLike,
    *,
    draws: int = 3,
    seed: int = 0,
    mask: trees.Mask | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Averages one loss over Gaussian noise on the parameters.

    It turns :math:`\nabla L_{retain}` into the gradient of
    :math:`\lambda_1 E_\xi L_{neg}(\theta + \sigma \xi) + L_{retain}`, with the mean over m draws for the
    expectation:

    .. math::

      \frac{\lambda_1}{m} \sum_{i=1}^m \nabla L_{neg}(\theta + \sigma \xi_i) + \nabla L_{retain}(\theta),
      \qquad \xi_i \sim N(0, 1)

    The noise is about :math:`\sigma \sqrt{n}` long for n parameters, so :math:`\sigma = \rho / \sqrt{n}`
    compares with a `targeted_sam` of radius :math:`\rho`.

    Args:
      sigma: standard deviation :math:`\sigma \ge 0` of each coordinate; a number or a float array of rank 0.
      neg_weight: :math:`\lambda_1`; a number or a float array of rank 0.
      draws: m ≥ 1, gradients a step, computed one after the other.
      seed: starts the noise. Each update and each draw has a key of its own, derived from it; the noise does
        not depend on the number of devices.
      mask: which leaves are moved; as in `targeted_sam`.

    Returns:
      A transform that is called as `targeted_sam` is; `neg_grads` is not needed, and ignored. `neg_grad_fn`
      is traced under `jax.lax.scan`, and so must not note traced values outside of itself. Under
      `optax.inject_hyperparams`, name `draws`, `seed` and a `mask` in `static_args`.

    Raises:
      ValueError: `sigma` is negative or `draws` below 1; or, at init or update, as in `targeted_sam`.
    """
    name = "randomized_smoothing"
    sigma = trees.radius(f"{name}: sigma", sigma)
    neg_weight = trees.wide_enough(f"{name}: neg_weight", neg_weight)
    if not isinstance(draws, int) or not isinstance(seed, int):
        raise ValueError(
            "randomized_smoothing: draws and seed are Python integers; with optax.inject_hyperparams give "
            "static_args=('draws', 'seed')"
        )
    if draws < 1:
        raise ValueError(f"randomized_smoothing: draws must be at least 1, got {draws}")

    def init_fn(params: optax.Params) -> SmoothedState:
        trees.check_init(name, params)
        trees.perturbed_leaves(name, mask, params)
        return SmoothedState(jax.random.key(seed), jnp.zeros((), jnp.float32))

    def update_fn(
        updates: optax.Updates,
        state: SmoothedState,
        params: optax.Params | None = None,
        *,
        neg_grad_fn: trees.GradFn | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, SmoothedState]:
        del extra_args
        neg_grad_at = trees.check_call(name, updates, params, neg_grad_fn)
        chosen = trees.perturbed_leaves(name, mask, params)
        next_key, key = jax.random.split(state.key)

        def add_one(total: optax.Updates, draw_key: jax.Array) -> tuple[optax.Updates, None]:
            noise = trees.scale(_gaussian(draw_key, params, chosen), sigma)
            # A part of the mean each: the sum of finite gradients may be infinite.
            part = trees.scale(neg_grad_at(trees.add(params, noise)), 1 / draws)
            return trees.add(total, part), None

        shapes = jax.eval_shape(neg_grad_at, params)
        zeros = jax.tree.map(lambda x: trees.wide(jnp.zeros(x.shape, x.dtype)), shapes)
        mean, _ = jax.lax.scan(add_one, zeros, jax.random.split(key, draws))
        _, norm = trees.normalise(trees.select(mean, chosen))
        return trees.combine(updates, mean, neg_weight), SmoothedState(next_key, norm)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _gaussian(key: jax.Array, params: optax.Params, chosen: optax.Params) -> optax.Params:
    """Standard normal noise like `params` in the wide dtype, zeros at leaves that are not chosen."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, max(len(leaves), 1))[: len(leaves)]))
    return jax.tree.map(
        lambda x, k, moved: (
            jax.random.normal(k, x.shape, trees.wide(x).dtype) if moved else jnp.zeros_like(trees.wide(x))
        ),
        params,
        keys,
        chosen,
    )
