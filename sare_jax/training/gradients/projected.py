"""Gradients with respect to parameters that act on image features alone, part by part.

A pass has two halves: the frozen language model is pulled back to the projected features of each group of
rows, and the mapping layers are pulled back from there, once for each gradient that is wanted. Weight
gradients of the language model are never formed, and with rows divided over devices each of the gradients is
reduced once.
"""

import functools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sare_jax.data.batches import SETS
from sare_jax.training.gradients.pulling import has_units, members, pull_where, weighted
from sare_jax.training.losses import losses_of_rows
from sare_jax.training.rows import Rows
from sare_jax.training.state import Params
from sare_jax.training.static import Images, Static, Weights


def gradients(
    static: Static,
    params: Params,
    frozen: Params,
    groups: Mapping[str, Rows],
    features: Mapping[str, Images],
    counts: Mapping[str, jax.Array],
    wanted: Sequence[Weights],
) -> tuple[list[Params], dict[str, jax.Array]]:
    """Gradients of several weighted sums of L_neg, L_pos and L_sent; see the package for the arguments.

    A group of rows has one forward pass, and one backward pass for each sum that it contributes to. These
    backward passes run together, so that what they compute again of the forward pass is computed once.
    """
    parts = members(groups, wanted)
    image_embeds: dict[str, jax.Array] = {}
    pulls = []
    for names in parts:
        chosen = {name: features[name] for name in names}
        project = functools.partial(_project, static, frozen, features=chosen)
        projected, pull = jax.vjp(project, params)
        image_embeds |= projected
        pulls.append(pull)

    cotangents: list[dict[str, jax.Array]] = [{} for _ in wanted]
    values = dict.fromkeys(SETS, jnp.zeros(()))
    for name, embeds in image_embeds.items():
        numbers = [number for number, names in enumerate(parts) if name in names]

        def sums_of(embeds: jax.Array, name: str = name, numbers: Sequence[int] = numbers) -> tuple:
            # Past the projection nothing depends on θ.
            model = static.merge(jax.lax.stop_gradient(params), frozen)
            losses = losses_of_rows(static, model, groups[name], embeds, counts, static.prefix)
            return tuple(weighted(losses, wanted[number]) for number in numbers), losses

        present, kinds = has_units(groups, name, counts), groups[name].units
        pulled, losses = pull_where(present, sums_of, embeds, len(numbers), kinds)
        for number, cotangent in zip(numbers, pulled, strict=True):
            cotangents[number][name] = cotangent
        values |= {kind: values[kind] + loss for kind, loss in losses.items()}
    grads = [pull(given)[0] for pull, given in zip(pulls, cotangents, strict=True)]
    return grads, values


def _project(
    static: Static, frozen: Params, params: Params, *, features: dict[str, Images]
) -> dict[str, jax.Array]:
    """Projects the features of several groups as one array, so that θ has one gradient to be reduced.

    The groups are laid side by side within the parts of the row axis that devices hold, so that no row moves.
    """
    if not features:
        return {}
    model = static.merge(params, frozen)
    parts = math.gcd(*(len(images.features) for images in features.values()))
    split = [
        jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), images) for images in features.values()
    ]
    edges = np.cumsum([images.features.shape[1] for images in split])[:-1]
    joined = static.project(model, jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *split))
    pieces = jnp.split(joined, edges, axis=1)
    return {name: piece.reshape(-1, *piece.shape[2:]) for name, piece in zip(features, pieces, strict=True)}
