"""Loss around a solution: along ±ε* and along a random direction, which Fig. 2 of the paper draws."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from sare_jax.data.batches import Batch, TokenSet, finetune_batches
from sare_jax.inference.features import FeatureCache
from sare_jax.models.interface import LoadedModel, merge
from sare_jax.objectives.likelihood import token_mean_nll
from sare_jax.rounding import round_up
from sare_jax.training.losses import target_log_probs
from sare_jax.training.remat import Policy
from sare_jax.training.sharding import gathering, spread_rows
from sare_jax.training.state import Params

BATCH = 32  # units whose loss is read at a time; rounded up to a multiple of the devices


def directions(
    loaded: LoadedModel,
    params: Params,
    units: TokenSet,
    features: FeatureCache,
    *,
    mesh: Mesh,
    seed: int,
    batch_size: int,
    remat_policy: Policy | None,
) -> dict[str, Params]:
    """Unit directions at a solution.

    Args:
      loaded: the base model; its own trainable parameters are not used.
      params: the solution θ.
      units: token rows of D_neg.
      features: gives the image features of the units' images.
      mesh: devices that share the units; the model lies on them.
      seed: fixes the random direction.
      batch_size: units whose gradient is taken at a time, over all devices.
      remat_policy: what a layer keeps for its backward pass; None keeps all.

    Returns:
      `eps`: ε*/ρ, the gradient of L_neg = −L_ft over all `units`, normalised; `random`: Gaussian, normalised.
    """
    total = jax.tree.map(jnp.zeros_like, params)
    for batch in _batches(units, features, mesh, batch_size):
        with gathering(mesh):
            grads = gradient(loaded.graphdef, params, loaded.frozen, batch, remat_policy)
        total = jax.tree.map(jnp.subtract, total, grads)
    noise = optax.tree.random_like(jax.random.key(seed), params)
    return {"eps": _unit(total), "random": _unit(noise)}


def loss_at(
    loaded: LoadedModel, params: Params, units: TokenSet, features: FeatureCache, *, mesh: Mesh
) -> float:
    """L_ft over `units`: the mean of their token-mean negative log-likelihoods."""
    total = 0.0
    for batch in _batches(units, features, mesh, BATCH):
        with gathering(mesh):
            total += float(summed_loss(loaded.graphdef, params, loaded.frozen, batch))
    return total / len(units)


def moved(params: Params, direction: Params, distance: float) -> Params:
    """θ + distance · direction."""
    return jax.tree.map(lambda x, d: x + jnp.asarray(distance, x.dtype) * d, params, direction)


def _batches(
    units: TokenSet, features: FeatureCache, mesh: Mesh, batch_size: int
) -> Iterator[dict[str, jax.Array]]:
    rows = round_up(batch_size, mesh.size)
    for batch in finetune_batches(units, np.arange(len(units)), batch_size=rows, row_multiple=rows):
        rest = {key: value for key, value in batch.items() if key != "image"}
        yield spread_rows(rest | {"features": features(batch["image"])}, mesh)


@functools.partial(jax.jit, static_argnames=("graphdef", "remat_policy"))
def summed_loss(
    graphdef: nnx.GraphDef, params: Params, frozen: Params, batch: Batch, remat_policy: Policy | None = None
) -> jax.Array:
    """L_ft of a batch's units, summed."""
    model = merge(graphdef, params, frozen)
    return jnp.sum(batch["valid"] * token_mean_nll(*target_log_probs(model, batch, remat_policy)))


@functools.partial(jax.jit, static_argnames=("graphdef", "remat_policy"))
def gradient(
    graphdef: nnx.GraphDef, params: Params, frozen: Params, batch: Batch, remat_policy: Policy | None
) -> Params:
    """Its gradient."""
    return jax.grad(lambda params: summed_loss(graphdef, params, frozen, batch, remat_policy))(params)


def _unit(tree: Params) -> Params:
    norm = optax.tree.norm(tree)
    return jax.tree.map(lambda x: x / jnp.where(norm > 0, norm, 1), tree)
