"""From the settings of a run to its losses, sample weights, schedules and references."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from sare_jax.data.batches import SETS, TokenSet, TokenSets, finetune_batches
from sare_jax.models.interface import LoadedModel, merge
from sare_jax.optim import Perturbation, efuf
from sare_jax.optim.objectives import ascent, log_likelihood, nll, npo, unlikelihood
from sare_jax.records.curated import Curated
from sare_jax.settings import OptimConfig
from sare_jax.training.passes import Loss
from sare_jax.training.sharding import gathering, replicated, spread_rows
from sare_jax.training.state import Hyper, Params
from sare_jax.training.step import target_log_probs

Features = Callable[[Sequence[str]], np.ndarray]


def losses_of(settings: OptimConfig, sets: TokenSets) -> dict[str, Loss]:
    """`neg_loss` and `retain_loss` of the steps; the same settings give the same functions.

    Args:
      settings: of the run.
      sets: whose longest row is the padded length of `seq_mean_padded`, in packed and unpacked form alike.
    """
    length = None
    if settings.reduction == "seq_mean_padded":
        length = max(getattr(sets, kind).length for kind in SETS)
    return {
        "neg_loss": _neg_loss(settings.objective, settings.reduction, length, settings.npo_beta),
        "retain_loss": _retain_loss(settings.reduction, length),
    }


@functools.cache
def _neg_loss(objective: str, reduction: str, length: int | None, beta: float) -> Loss:
    if objective == "ascent":
        return functools.partial(ascent, reduction=reduction, length=length)
    return functools.partial(npo, beta=beta) if objective == "npo" else unlikelihood


@functools.cache
def _retain_loss(reduction: str, length: int | None) -> Loss:
    return functools.partial(nll, reduction=reduction, length=length)


def perturbation_of(settings: OptimConfig) -> Perturbation:
    """How a run finds ε*."""
    return Perturbation(
        norm=settings.sam_norm,
        scaling=settings.sam_scaling,
        eta=settings.sam_eta,
        steps=settings.sam_steps,
        refresh_every=settings.sam_refresh_every,
        between=settings.sam_between,
    )


@dataclass(frozen=True)
class EfufSchedule:
    """The weights of EFUF's public code over a run; see `sare_jax.optim.efuf`.

    Attributes:
      steps: of the run.
    """

    steps: int

    def __call__(self, hyper: Hyper, step: jax.Array) -> Hyper:
        """The settings of a step: L_pos falls to its half, λ₁ holds and then falls to 0."""
        return hyper._replace(
            pos_weight=hyper.pos_weight * efuf.pos_schedule(self.steps)(step),
            neg_weight=hyper.neg_weight
            * efuf.neg_schedule(self.steps, dataclasses.replace(efuf.EFUF, neg_weight=1.0))(step),
        )


def with_score_weights(sets: TokenSets, curated: Curated) -> TokenSets:
    """The sets, each unit weighed by its CLIP score as EFUF's public code does."""

    def weighed(kind: str) -> TokenSet:
        units = getattr(sets, kind)
        scores = np.asarray(getattr(curated, kind).score, np.float32)[units.unit]
        return dataclasses.replace(units, weight=np.asarray(efuf.score_weights(kind, scores), np.float32))

    return dataclasses.replace(sets, **{kind: weighed(kind) for kind in SETS})


def with_references(
    sets: TokenSets, loaded: LoadedModel, features: Features, mesh: Mesh, *, batch_size: int
) -> TokenSets:
    """The sets, the negatives with their log-likelihood under the model's own weights, for `npo`.

    Args:
      sets: token rows.
      loaded: the starting weights, placed on the mesh.
      features: vision features by file name.
      mesh: devices that share the rows.
      batch_size: rows at a time.
    """
    units, found = sets.neg, []
    evaluate = _log_likelihoods(mesh)
    for batch in finetune_batches(
        units, np.arange(len(units)), batch_size=batch_size, row_multiple=mesh.size
    ):
        seen = features(batch["image"].tolist())
        rows = {key: value for key, value in batch.items() if key != "image"} | {"features": seen}
        with gathering(mesh):
            values = evaluate(loaded.graphdef, loaded.params, loaded.frozen, spread_rows(rows, mesh))
        found.append(np.asarray(values)[batch["valid"] > 0])
    return dataclasses.replace(sets, neg=dataclasses.replace(units, reference=np.concatenate(found)))


@functools.cache
def _log_likelihoods(mesh: Mesh) -> Callable[..., jax.Array]:
    def evaluate(graphdef: nnx.GraphDef, params: Params, frozen: Params, rows: Any) -> jax.Array:
        return log_likelihood(*target_log_probs(merge(graphdef, params, frozen), rows))

    # Whole on each device, so that every host can read it.
    return jax.jit(evaluate, static_argnums=0, out_shardings=replicated(mesh))
