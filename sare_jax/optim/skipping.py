"""Steps that leave everything as it was when something is not finite."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class SkipNonfiniteState(NamedTuple):
    """State of `skip_nonfinite`.

    Attributes:
      skipped: int32[], steps that were left out, in all.
      skipped_in_a_row: int32[], of these the last, without a sound step since; 0 after a sound step.
      inner_state: of the inner transform, as the last sound step left it.
    """

    skipped: jax.Array
    skipped_in_a_row: jax.Array
    inner_state: optax.OptState


def skip_nonfinite(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    r"""Skips non-finite steps: their updates are zero, and the inner state stays bit for bit as it was.

    It looks at what goes in, at what comes out, and at the new inner state: a step is skipped where a
    gradient or update is infinite or no number, or where an entry of the state ceases to be finite (a
    gradient of :math:`10^{30}` gives a sound Adam update and an infinite second moment). So momentum, weight
    decay, schedules and counts stand still too. `optax.apply_if_finite` looks at what goes in alone, which
    for a chain with `targeted_sam` is the retention gradient; and a zero gradient in the place of a bad one
    would still move momentum and decay weights.

    Put it around the whole chain, `skip_nonfinite(optax.chain(targeted_sam(…), optax.adamw(…)))`. Nothing
    ends a run in which all steps are skipped: watch `skipped_in_a_row`.

    Args:
      inner: a transform or chain; extra arguments are passed on.

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
