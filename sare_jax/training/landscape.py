"""Loss around a solution: along ±ε* and along a random direction, which Fig. 2 of the paper draws."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sare_jax.data.batches import TokenSet, finetune_batches
from sare_jax.inference.features import FeatureCache
from sare_jax.models.load import LoadedLlava, merge
from sare_jax.optim.objectives import token_mean_nll
from sare_jax.training.state import Params
from sare_jax.training.step import target_log_probs

BATCH = 32


def directions(
    loaded: LoadedLlava, params: Params, units: TokenSet, features: FeatureCache, *, seed: int
) -> dict[str, Params]:
    """Unit directions at a solution.

    Args:
      loaded: the model.
      params: the solution θ.
      units: hallucinated units.
      features: vision features of their images.
      seed: of the random direction.

    Returns:
      `eps`: ε*/ρ, the gradient of L_neg = −L_ft over all `units`, normalised; `random`: Gaussian, normalised.
    """
    total = jax.tree.map(jnp.zeros_like, params)
    for batch in _batches(units, features):
        _, grads = _sum_and_grad(loaded.graphdef, params, loaded.frozen, batch)
        total = jax.tree.map(jnp.subtract, total, grads)
    noise = optax.tree.random_like(jax.random.key(seed), params)
    return {"eps": _unit(total), "random": _unit(noise)}


def loss_at(loaded: LoadedLlava, params: Params, units: TokenSet, features: FeatureCache) -> float:
    """L_ft over `units`: the mean of their token-mean negative log-likelihoods."""
    sums = [
        _sum_and_grad(loaded.graphdef, params, loaded.frozen, batch)[0] for batch in _batches(units, features)
    ]
    return float(sum(sums)) / len(units)


def moved(params: Params, direction: Params, distance: float) -> Params:
    """θ + distance · direction."""
    return jax.tree.map(lambda x, d: x + jnp.asarray(distance, x.dtype) * d, params, direction)


def _batches(units: TokenSet, features: FeatureCache) -> Iterator[dict[str, np.ndarray]]:
    for batch in finetune_batches(units, np.arange(len(units)), batch_size=BATCH, row_multiple=BATCH):
        yield {**{k: v for k, v in batch.items() if k != "image"}, "features": features(batch["image"])}


@functools.partial(jax.jit, static_argnames="graphdef")
def _sum_and_grad(graphdef: nnx.GraphDef, params: Params, frozen: Params, batch: dict) -> tuple:
    """Summed L_ft of a batch's units, and its gradient."""

    def total(params: Params) -> jax.Array:
        model = merge(graphdef, params, frozen)
        hidden = model.hidden(batch["tokens"], batch["features"])
        return jnp.sum(batch["valid"] * token_mean_nll(*target_log_probs(model, hidden, batch)))

    return jax.value_and_grad(total)(params)


def _unit(tree: Params) -> Params:
    norm = optax.tree.norm(tree)
    return jax.tree.map(lambda x: x / jnp.where(norm > 0, norm, 1), tree)
