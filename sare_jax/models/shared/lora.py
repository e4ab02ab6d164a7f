"""Low-rank adapters beside the linear layers of a language model (LoRA).

A layer with an adapter gives `x W + scale · (x A) B`. Its numbers lie in the trees of parameters below the
layer's own path, as `…/q/lora/a`, so a model has adapters where its trees have them. Nothing is ever added to
W, which stays as it was loaded, bit for bit: there is no second copy of the weights, no rounding of a sum to
their dtype, and nothing to undo afterwards.
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.errors import UserError
from sare_jax.models.shared.layers import Linear
from sare_jax.models.shared.partition import Tree, flatten, unflatten

_MEMBER = re.compile(r"(.+)/lora/(\w+)")


class Adapter(nnx.Module):
    """`scale · (x A) B`, A float[*stack, in, r], B float[*stack, r, out], scale float[*stack]."""

    def __init__(self, members: Mapping[str, jax.Array]):
        self.a, self.b, self.scale = (nnx.Param(members[name]) for name in ("a", "b", "scale"))
        self.drawn = "keys" in members
        if self.drawn:
            self.keys, self.keep = nnx.Param(members["keys"]), nnx.Param(members["keep"])

    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, ..., in] -> float[B, ..., out]; the products have the dtype of x."""
        if self.drawn:
            x = jax.vmap(_dropped, in_axes=(0, 0, None))(x, self.keys[...], self.keep[...])
        a, b, scale = (part[...].astype(x.dtype) for part in (self.a, self.b, self.scale))
        return (x @ a) @ b * scale


def is_adapter(path: str) -> bool:
    """Whether a '/'-joined path is that of an adapter's numbers."""
    return _MEMBER.fullmatch(path) is not None


def split(tree: Mapping[str, Any]) -> tuple[Tree, Tree]:
    """A tree without its adapters, and these alone."""
    flat = flatten(tree)
    mine = {path: leaf for path, leaf in flat.items() if is_adapter(path)}
    return unflatten({path: leaf for path, leaf in flat.items() if path not in mine}), unflatten(mine)


def by_layer(adapters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Path of a linear layer → its adapter's members by name, of a tree that holds nothing else."""
    layers: dict[str, dict[str, Any]] = {}
    for path, leaf in flatten(adapters).items():
        match = _MEMBER.fullmatch(path)
        assert match is not None
        layers.setdefault(match[1], {})[match[2]] = leaf
    return layers


def attach(model: Any, adapters: Mapping[str, Any]) -> Any:
    """Puts adapters beside the linear layers of a model; returns it. No weight is copied.

    Args:
      model: an nnx module with its weights; changed.
      adapters: tree of their members below the paths of `shared.layers.Linear` modules.
    """
    for path, members in by_layer(adapters).items():
        layer = functools.reduce(getattr, path.split("/"), model)
        if not isinstance(layer, Linear):
            raise UserError(f"{path}: is no linear layer that takes an adapter")
        layer.adapter = nnx.data(Adapter(members))
    return model


def init(kernels: Mapping[str, tuple[int, ...]], rank: int, key: jax.Array) -> Tree:
    """Adapters that change nothing yet, as PEFT draws them: A uniform in ±1/√in, B zero.

    Args:
      kernels: path of a linear layer → shape of its kernel, (*stack, in, out).
      rank: r.
      key: typed PRNG key; each layer has its own draws, whatever the others are.

    Returns:
      Tree of float32 `a` and `b`, to be trained.
    """
    flat: dict[str, jax.Array] = {}
    for number, (path, (*stack, inner, outer)) in enumerate(sorted(kernels.items())):
        bound = 1 / math.sqrt(inner)
        own = jax.random.fold_in(key, number)
        flat[f"{path}/lora/a"] = jax.random.uniform(own, (*stack, inner, rank), minval=-bound, maxval=bound)
        flat[f"{path}/lora/b"] = jnp.zeros((*stack, rank, outer))
    return unflatten(flat)


def scales(kernels: Mapping[str, tuple[int, ...]], scale: float) -> Tree:
    """Tree of the members `scale`, which are not trained; `kernels` as in `init`."""
    return unflatten({f"{path}/lora/scale": jnp.full(shape[:-2], scale) for path, shape in kernels.items()})


def dropping(adapters: Mapping[str, Any], keys: jax.Array, keep: float) -> Tree:
    """Tree of the members by which adapters drop their inputs in one pass.

    Args:
      adapters: tree with the adapters' `a`, stacked along one axis.
      keys: typed PRNG keys [B], one a row; each layer of a row has a mask of its own.
      keep: share of the inputs that is kept.
    """
    flat: dict[str, jax.Array] = {}
    for number, (path, members) in enumerate(sorted(by_layer(adapters).items())):
        layers = jnp.arange(members["a"].shape[0])
        own = jax.vmap(lambda key, number=number: jax.random.fold_in(key, number))(keys)
        drawn = jax.vmap(lambda layer, own=own: jax.vmap(lambda key: jax.random.fold_in(key, layer))(own))(
            layers
        )
        flat[f"{path}/lora/keys"] = jax.random.key_data(drawn)
        flat[f"{path}/lora/keep"] = jnp.full(layers.shape, keep)
    return unflatten(flat)


def kernels_of(prefix: str, shapes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The linear layers of a language model's decoder: all but its head, which is no layer of it.

    Args:
      prefix: path prefix of its stacked layers (`ModelShape.layers`).
      shapes: '/'-joined path → anything with a `shape`, of all parameters.

    Returns:
      Path of a layer → shape of its kernel.

    Raises:
      UserError: there is none.
    """
    found = {
        path.removesuffix("/kernel"): tuple(leaf.shape)
        for path, leaf in shapes.items()
        if path.startswith(prefix) and path.endswith("/kernel") and len(leaf.shape) == 3
    }
    if not found:
        raise UserError(f"{prefix}: no linear layers there, so there is nothing to put adapters beside")
    return found


def l2(adapters: Mapping[str, Any]) -> float:
    """The Euclidean norm of what all adapters add to their weights, scale · A B."""
    total = 0.0
    for members in by_layer(adapters).values():
        a, b, scale = (jnp.asarray(members[name], jnp.float32) for name in ("a", "b", "scale"))
        # ‖AB‖² is the sum of the products of the entries of AᵀA and BBᵀ, which are r × r.
        squares = jnp.einsum("...ir,...is->...rs", a, a) * jnp.einsum("...ro,...so->...rs", b, b)
        total += float(jnp.sum(jnp.square(scale)[..., None, None] * squares))
    return math.sqrt(max(total, 0.0))


def _dropped(x: jax.Array, key: jax.Array, keep: jax.Array) -> jax.Array:
    """A row float[..., in] with each number kept with probability `keep`, and then divided by it."""
    mask = jax.random.bernoulli(jax.random.wrap_key_data(key), keep, x.shape)
    return jnp.where(mask, x / keep.astype(x.dtype), 0)
