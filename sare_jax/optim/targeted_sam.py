"""Targeted-SAM: sharpness-aware minimisation of one loss among several."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim import refresh, trees
from sare_jax.optim.perturbation import Perturbation, worst_nearby

_EQUATION_6 = Perturbation()

Result = TypeVar("Result")


class TargetedSamState(NamedTuple):
    """Measures of the latest update, for logging; no update reads them.

    Attributes:
      neg_grad_norm: float32[], ‖∇L_neg(θ)‖₂ over the perturbed leaves.
      eps_norm: float32[], ‖ε*‖₂ as it was added: `rho`, or 0 where ∇L_neg(θ) is zero, and less in a tree of
        bfloat16, which rounds ε* away.
      cosine: float32[], cosine between ∇L_neg(θ) and ∇L_neg(θ+ε*) over the perturbed leaves; 1 means that the
        loss is flat or linear there, 0 stands in where one of them is zero.
    """

    neg_grad_norm: jax.Array
    eps_norm: jax.Array
    cosine: jax.Array


class RefreshedSamState(NamedTuple):
    """The state where `Perturbation.refresh_every` is above 1.

    Attributes:
      neg_grad_norm: float32[], ‖∇L_neg(θ)‖₂ over the perturbed leaves, in every step, or with
        `Perturbation.between` as `kept` of the last perturbation; 0 where the batch has no negatives.
      eps_norm, cosine: float32[], as in `TargetedSamState`, of the last perturbation.
      memory: how that perturbation changed the gradient of L_neg, for the steps until the next one.
    """

    neg_grad_norm: jax.Array
    eps_norm: jax.Array
    cosine: jax.Array
    memory: refresh.SharpMemory


def targeted_sam(
    rho: jax.typing.ArrayLike,
    neg_weight: jax.typing.ArrayLike,
    *,
    mask: trees.Mask | None = None,
    perturbation: Perturbation = _EQUATION_6,
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
    gradients inside `neg_grad_fn`. In a tree of bfloat16 a perturbation below a parameter's own spacing is
    rounded away, which `eps_norm` shows: keep trainable parameters in float32.

    A gradient that is not finite gives an update that is not finite: wrap the whole chain in
    `skip_nonfinite`, which then keeps parameters and states as they were.

    The transform stands outside of `optax.masked` and `optax.partition`, since `neg_grad_fn` needs whole
    parameters. Clipping belongs behind it. Accumulate micro-batches inside `neg_grad_fn`: `optax.MultiSteps`
    around it would see :math:`L_{neg}` of the last micro-batch alone, and is refused.

    Under `optax.inject_hyperparams` a `mask` that is a function has to be named, `static_args="mask"`, or it
    is called as a schedule; and with parameters below float32 the numbers need
    `hyperparam_dtype=jnp.float32`, or :math:`\rho` is rounded as the parameters are. Either is an error.

    Args:
      rho: radius :math:`\rho \ge 0` of the ball, in units of the parameters; a number or a float array of
        rank 0. With 0 the update is :math:`\lambda_1 \nabla L_{neg}(\theta) + \nabla L_{retain}(\theta)`. A
        traced one that is negative cannot be refused and counts as 0.
      neg_weight: :math:`\lambda_1`; a number or a float array of rank 0.
      mask: which leaves are perturbed and counted in the norm: a tree of booleans with the structure of the
        parameters or a prefix of it that is more than a single value, or a function from parameters to such
        a tree. Leaves left out still receive both gradients. None perturbs all.
      perturbation: other balls, several ascent steps, or :math:`\epsilon^*` refreshed in some steps only.
        With the last, `neg_grad_fn` is traced under `jax.lax.cond`, and so must not note traced values
        outside of itself.

    Returns:
      An `optax.GradientTransformationExtraArgs`. Its update is called as
      `tx.update(retain_grads, state, params, neg_grad_fn=f)`, where

      * `retain_grads` is :math:`\nabla L_{retain}(\theta)`; the result has its dtypes;
      * `neg_grad_fn` maps any parameters to :math:`\nabla L_{neg}` at them; it is called once, at
        :math:`\theta + \epsilon^*`, and once more, before that, at :math:`\theta`, unless
      * `neg_grads`, optional, hands over :math:`\nabla L_{neg}(\theta)` that the caller has already, as
        `first_pass` gives it;
      * `negatives`, needed beside `neg_grads` with `Perturbation.between` as `kept`, is how many samples
        :math:`L_{neg}` has in this batch. Without any :math:`L_{neg}` is 0, and nothing is added for it;
      * `ascent_grad_fn`, optional, is :math:`\nabla L_{neg}` on other samples. :math:`\epsilon^*` is then
        found on these, in as many calls as there are ascent steps, so that it stands for an attack with
        samples of its own; the gradient at :math:`\theta + \epsilon^*` stays that of `neg_grad_fn`.

      Other extra arguments are ignored, so that they can be meant for the rest of a chain.

    Raises:
      ValueError: `rho` is negative, or `perturbation` has a value that is not one of its own; or, at init or
        update: parameters, `neg_grad_fn` or `negatives` are missing; the parameters are empty; a gradient is
        not like them; a `MaskedNode` is among them; `mask` is a single value or chooses nothing; a number
        has less than float32's precision; or the transform is inside of `optax.MultiSteps`.

    Examples:
      A plain loop with two losses of one parameter vector, the first to be made robust:

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

      A Flax NNX model. `nnx.Optimizer.update` passes further arguments on:

      >>> from flax import nnx
      >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(
      ...     model, optax.chain(targeted_sam(rho=0.05, neg_weight=0.3), optax.adamw(0.1)), wrt=nnx.Param)
      >>> inputs = jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> @nnx.jit
      ... def step(model, optimizer):
      ...     graph, params, rest = nnx.split(model, nnx.Param, ...)
      ...     def neg_loss(params):  # unlearn 1 for the first input,
      ...         return -jnp.mean((nnx.merge(graph, params, rest)(inputs[:1]) - 1.0) ** 2)
      ...     def retain_loss(params):  # and learn it for the second
      ...         return jnp.mean((nnx.merge(graph, params, rest)(inputs[1:]) - 1.0) ** 2)
      ...     retain_grads = jax.grad(retain_loss)(params)
      ...     optimizer.update(model, retain_grads, neg_grad_fn=jax.grad(neg_loss))
      >>> before = model(inputs)
      >>> for _ in range(50):
      ...     step(model, optimizer)
      >>> gap_before, gap = abs(before[:, 0] - 1.0), abs(model(inputs)[:, 0] - 1.0)
      >>> print(f"farther {gap[0] > gap_before[0]}, nearer {gap[1] < gap_before[1]}")
      farther True, nearer True

    References:
      Foret et al., `Sharpness-Aware Minimization for Efficiently Improving Generalization
      <https://arxiv.org/abs/2010.01412>`_, 2021; Fan et al., `Towards LLM Unlearning Resilient to Relearning
      Attacks <https://arxiv.org/abs/2502.05374>`_, 2025; SARE, Eq. 5-8.
    """
    name = "targeted_sam"
    rho, neg_weight = trees.radius(f"{name}: rho", rho), trees.wide_enough(f"{name}: neg_weight", neg_weight)
    perturbation.check("Perturbation")
    every, whole = perturbation.refresh_every, perturbation.between == "kept"

    def init_fn(params: optax.Params) -> TargetedSamState | RefreshedSamState:
        trees.check_init(name, params)
        trees.perturbed_leaves(name, mask, params)
        state = TargetedSamState(*(jnp.zeros((), jnp.float32) for _ in TargetedSamState._fields))
        return state if every == 1 else RefreshedSamState(*state, refresh.blank(params))

    def update_fn(
        updates: optax.Updates,
        state: TargetedSamState | RefreshedSamState,
        params: optax.Params | None = None,
        *,
        neg_grad_fn: trees.GradFn | None = None,
        neg_grads: optax.Updates | None = None,
        negatives: jax.typing.ArrayLike | None = None,
        ascent_grad_fn: trees.GradFn | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, TargetedSamState | RefreshedSamState]:
        del extra_args
        neg_grad_at = trees.check_call(name, updates, params, neg_grad_fn)
        if neg_grads is None:
            neg_grads = neg_grad_at(params)
        elif every > 1 and whole and negatives is None:
            raise ValueError(f"{name}: between='kept' needs `negatives` beside `neg_grads`")
        trees.like_params(name, "neg_grads are", neg_grads, params)
        chosen = trees.perturbed_leaves(name, mask, params)
        direction, neg_grad_norm = trees.normalise(trees.select(neg_grads, chosen))

        def perturb() -> tuple[optax.Updates, TargetedSamState]:
            ascend, at_theta = neg_grad_at, neg_grads
            if ascent_grad_fn is not None:
                ascend = trees.gradient_fn(name, ascent_grad_fn)
                at_theta = ascend(params)
            eps = worst_nearby(ascend, params, at_theta, rho=rho, chosen=chosen, how=perturbation)
            moved = trees.add(params, eps)
            grads = neg_grad_at(moved)
            _, eps_norm = trees.normalise(trees.added(params, eps, moved))
            sharp_direction, _ = trees.normalise(trees.select(grads, chosen))
            cosine = trees.inner(direction, sharp_direction)
            return grads, TargetedSamState(neg_grad_norm, eps_norm, cosine)

        if isinstance(state, TargetedSamState):
            sharp_grads, measures = perturb()
            return trees.combine(updates, sharp_grads, neg_weight), measures

        before: RefreshedSamState = state

        def fresh() -> tuple[optax.Updates, RefreshedSamState]:
            grads, measures = perturb()
            memory = refresh.remember(grads, neg_grads, direction, neg_grad_norm, left=every - 1, whole=whole)
            return jax.tree.map(trees.wide, grads), RefreshedSamState(*measures, memory)

        def recalled() -> tuple[optax.Updates, RefreshedSamState]:
            memory = before.memory._replace(left=jnp.maximum(before.memory.left - 1, 0))
            if whole:
                some = neg_grad_norm > 0 if negatives is None else jnp.asarray(negatives) > 0
                norm = jnp.where(some, memory.neg_grad_norm, 0)
                grads = refresh.recall_whole(memory, neg_grads, some)
                return grads, before._replace(neg_grad_norm=norm, memory=memory)
            grads = refresh.recall(memory, neg_grads, direction, neg_grad_norm)
            return grads, before._replace(neg_grad_norm=neg_grad_norm, memory=memory)

        # A batch without negatives has no ∇L_neg, so the refresh waits for the next batch.
        due = (before.memory.left == 0) & (neg_grad_norm > 0)
        sharp_grads, after = jax.lax.cond(due, fresh, recalled)
        return trees.combine(updates, sharp_grads, neg_weight), after

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def first_pass(
    opt_state: optax.OptState,
    perturbation: Perturbation,
    *,
    apart: Callable[[], Result],
    joint: Callable[[], Result],
) -> Result:
    """Computes the gradients at θ in the cheapest way that the next update of `targeted_sam` allows.

    With `Perturbation.between` as `kept` the updates between two ε* are linear in both gradients at θ, so
    that one backward pass of λ₁ L_neg + L_retain serves them.

    Args:
      opt_state: state of `targeted_sam`, also inside of a chain, of `optax.inject_hyperparams` or of
        `skip_nonfinite`.
      perturbation: the same one that `targeted_sam` was made with.
      apart: computes ∇L_neg(θ), for `neg_grads`, and ∇L_retain(θ); it may return more beside them.
      joint: likewise with zeros for ∇L_neg(θ), and the gradient of λ₁ L_neg + L_retain for ∇L_retain(θ). It
        is traced under `jax.lax.cond`, and only with `kept`; `update` then needs `negatives`.

    Returns:
      The result of `apart` or of `joint`.

    Raises:
      ValueError: no `targeted_sam` with this `refresh_every` is in the state.
    """
    if perturbation.refresh_every == 1 or perturbation.between != "kept":
        return apart()
    return jax.lax.cond(refresh_is_due(opt_state), apart, joint)


def refresh_is_due(opt_state: optax.OptState) -> jax.Array:
    """Whether the next update finds ε* anew, where `Perturbation.refresh_every` is above 1.

    Args:
      opt_state: state of `targeted_sam` or of what stands around it, as in `first_pass`.

    Returns:
      bool[].

    Raises:
      ValueError: no `targeted_sam` with `refresh_every` above 1 is in the state.
    """
    memory = optax.tree.get(opt_state, "SharpMemory", default=None)
    if memory is None:
        raise ValueError("refresh_is_due: no targeted_sam with refresh_every above 1 in this state")
    return memory.left == 0
