"""Skipping of optimizer steps whose gradients, updates or state are not finite."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class SkipNonfiniteState(NamedTuple):
    """State of `skip_nonfinite`.

    Attributes:
      skipped: int32[], steps skipped since the beginning.
      skipped_in_a_row: int32[], consecutive steps skipped up to the latest one; 0 if that was not skipped.
      inner_state: state of the inner transform after the latest step that was not skipped.
    """

    skipped: jax.Array
    skipped_in_a_row: jax.Array
    inner_state: optax.OptState


def skip_nonfinite(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    r"""Skips non-finite steps: their updates are zero, and the inner state stays bit for bit as it was.

    A step is skipped if a gradient or an update is infinite or NaN, or if an entry of the inner state that
    was finite would no longer be: a gradient of :math:`10^{30}` gives a finite Adam update, but an infinite
    second moment. A skipped step changes neither parameters nor momentum, schedules or counts, and decays no
    weights.

    Two simpler ways do not suffice. `optax.apply_if_finite` checks the incoming gradient alone, which for a
    chain with `targeted_sam` is only the retention gradient. And a step with its gradient set to zero would
    still apply momentum and weight decay.

    Put it around the whole chain, `skip_nonfinite(optax.chain(targeted_sam(…), optax.adamw(…)))`. It goes on
    skipping without end: watch `skipped_in_a_row`.

    Args:
      inner: a transform or chain, to which extra arguments of `update` are passed on.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from sare_jax.optim import skip_nonfinite
      >>> tx = skip_nonfinite(optax.adamw(0.1, weight_decay=0.05))
      >>> params = jnp.ones(2)
      >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(params), params)
      >>> updates.tolist(), int(state.skipped), int(state.inner_state[0].count)
      ([0.0, 0.0], 1, 0)
    """
    inner = optax.with_extra_args_support(inner)

    def init_fn(params: optax.Params) -> SkipNonfiniteState:
        return SkipNonfiniteState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), inner.init(params))

    def update_fn(
        updates: optax.Updates,
        state: SkipNonfiniteState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, SkipNonfiniteState]:
        before = state.inner_state
        new_updates, after = inner.update(updates, before, params, **extra_args)
        # Some states start out infinite, such as the best loss so far.
        sound = jax.tree.map(lambda new, old: _finite(new) | ~_finite(old), after, before)
        whole = [
            *jax.tree.leaves(jax.tree.map(_finite, (updates, new_updates))),
            *jax.tree.leaves(sound),
        ]
        ok = jnp.stack([jnp.all(x) for x in whole]).all()
        skipped = 1 - ok.astype(jnp.int32)
        return (
            jax.tree.map(lambda x: jnp.where(ok, x, jnp.zeros_like(x)), new_updates),
            SkipNonfiniteState(
                state.skipped + skipped,
                (state.skipped_in_a_row + 1) * skipped,
                jax.tree.map(lambda new, old: jnp.where(ok, new, old), after, before),
            ),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _finite(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x) if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.ones((), bool)
