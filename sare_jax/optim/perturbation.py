"""How Targeted-SAM looks for the worst parameters nearby: the inner maximisation of Eq. 5."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from sare_jax.optim import trees


@dataclass(frozen=True)
class Perturbation:
    r"""How :math:`\epsilon^*` is found. The defaults are the paper's Eq. 6.

    With :math:`g = \nabla L_{neg}`, the direction :math:`d(\theta) = T g(\theta) / \|T g(\theta)\|` and
    :math:`\Pi` the projection onto the ball of radius :math:`\rho` around zero,

    .. math::

      u_1 = \rho\, d(\theta), \qquad u_{j+1} = \Pi\,[\,u_j + \rho\, d(\theta + T u_j)\,], \qquad
      \epsilon^* = T u_{steps}

    It is a settings section of its own (`optim.sam`): a further option is a field here.
    """

    #: `global` takes one :math:`\|\cdot\|_2` over all perturbed leaves; `leaf` gives each leaf a ball of its
    #: own, :math:`\epsilon^*_l = \rho\, g_l / \|g_l\|_2`, so that the whole is up to
    #: :math:`\rho \sqrt{\text{leaves}}` long.
    norm: trees.Norm = "global"
    #: `none` has :math:`T = 1`; `adaptive` has :math:`T = \mathrm{diag}(|\theta| + \eta)`, which makes the
    #: ball invariant to rescaling of parameters: :math:`\epsilon^* = \rho\, T^2 g / \|T g\|_2` (ASAM, Kwon et
    #: al. 2021, who have ten times the :math:`\rho` of the plain ball).
    scaling: Literal["none", "adaptive"] = "none"
    #: :math:`\eta`, with `adaptive` alone; keeps parameters at zero movable.
    eta: float = 0.01
    #: Gradients that are followed, one being the plain :math:`\epsilon^*`. A step costs as many further
    #: evaluations of the gradient, and one more at :math:`\theta + \epsilon^*`.
    steps: int = 1
    #: Steps from one :math:`\epsilon^*` to the next; 1 finds it in every step. In between, what it changed is
    #: taken from memory (`sare_jax.optim.refresh`) and nothing is evaluated beyond :math:`\theta`. In
    #: `benchmarks/refresh.py`, under unlikelihood on fresh batches, 10 leaves P of the hallucination at 0.053
    #: after an attack, 1 at 0.054, and EFUF at 0.078.
    refresh_every: int = 1
    #: How that memory is used: the change :math:`h = g(\theta + \epsilon^*) - g(\theta)` that the last
    #: :math:`\epsilon^*` made.
    #: `turned` scales and turns it with :math:`g(\theta)`; `kept` adds it as it was. The gradient of the
    #: whole objective at :math:`\theta` is then enough in between, see `first_pass`.
    between: Literal["turned", "kept"] = "turned"

    @property
    def in_every_step(self) -> bool:
        """Whether every update finds ε*; its gradients are then all in one trace, under no `jax.lax.cond`."""
        return self.refresh_every == 1

    def check(self, where: str) -> None:
        """Raises ValueError where a field has another value than those named; `where` begins the message."""
        for name, choices in (
            ("norm", ("global", "leaf")),
            ("scaling", ("none", "adaptive")),
            ("between", ("turned", "kept")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{where}.{name}: {getattr(self, name)!r} is not one of {choices}")
        if self.eta < 0:
            raise ValueError(f"{where}.eta: must not be negative, got {self.eta}")
        for name in ("steps", "refresh_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{where}.{name}: must be at least 1, got {getattr(self, name)}")


def worst_nearby(
    ascent_grad_fn: trees.GradFn,
    params: optax.Params,
    ascent_grads: optax.Updates,
    *,
    rho: jax.typing.ArrayLike,
    chosen: optax.Params,
    how: Perturbation,
) -> optax.Updates:
    r""":math:`\epsilon^*`, in float32 or wider; zero at leaves that are not chosen, and for a zero gradient.

    Args:
      ascent_grad_fn: parameters → ∇L_neg at them, whose direction is followed; called `how.steps` − 1 times.
      params: θ.
      ascent_grads: ∇L_neg(θ).
      rho: ρ, radius of the ball.
      chosen: tree of bools like `params`; True at leaves that are perturbed.
      how: norm and scaling of the ball, and the number of ascent steps.
    """
    if how.scaling == "adaptive":
        sizes = jax.tree.map(lambda x: jnp.abs(trees.wide(x)) + how.eta, params)
    else:
        sizes = None

    def stretch(tree: optax.Updates) -> optax.Updates:
        return tree if sizes is None else jax.tree.map(jnp.multiply, sizes, tree)

    def step(grads: optax.Updates) -> optax.Updates:
        direction, _ = trees.normalise_by(how.norm, stretch(trees.select(grads, chosen)))
        return trees.scale(direction, rho)

    point = step(ascent_grads)
    # Not a `lax` loop: an `ascent_grad_fn` that notes values on the side stays in this trace.
    for _ in range(how.steps - 1):
        onward = step(ascent_grad_fn(trees.add(params, stretch(point))))
        point = _project(jax.tree.map(jnp.add, point, onward), rho, how.norm)
    return stretch(point)


def _project(tree: optax.Updates, rho: jax.typing.ArrayLike, norm: trees.Norm) -> optax.Updates:
    """The nearest point of the ball of radius ρ."""
    direction, lengths = trees.normalise_by(norm, tree)
    return jax.tree.map(lambda d, length: d * jnp.minimum(length, rho).astype(d.dtype), direction, lengths)
