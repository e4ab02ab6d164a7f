"""Memory of one device, added up from shapes, for accelerators with bfloat16 products and flash attention."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sare_jax.attacks import PlannedStep
from sare_jax.models.interface import ModelShape
from sare_jax.models.shared import partition
from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.target import Target
from sare_jax.plan.sizes import TARGETS, Captioning, Training
from sare_jax.training.sharding import FSDP

Parts = dict[str, int]

_FLOAT32 = 4


def local_bytes(tree: Any) -> int:
    """Bytes that each device holds of a tree of shapes; those without a sharding lie whole on one."""

    def shape(leaf: Any) -> tuple[int, ...]:
        return leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape

    return sum(math.prod(shape(leaf)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def training_bytes(
    model: ModelShape, params: partition.Tree, frozen: partition.Tree, mesh: Mesh, sizes: Training
) -> Parts:
    """What one device holds when the backward pass of a training step begins, where memory is at its peak.

    Args:
      model: sizes of the language model and of the image features.
      params: trainable parameters, as shapes with shardings.
      frozen: all other parameters, as shapes with shardings.
      mesh: devices that share rows and weights.
      sizes: rows, lengths and micro-batches of a step.

    Returns:
      Part → bytes. The three sets are run one after the other, so a device works on `rows_at_once` rows. A
      packed caption has two backward passes at a time.
    """
    gradients = 2 if sizes.packed else 1
    rows, itemsize = sizes.rows_at_once, _itemsize(frozen)
    trainable = sum(leaf.size for leaf in jax.tree.leaves(params)) * _FLOAT32
    kept = residual_bytes(model.text, sizes.length, itemsize, sizes.remat)
    whole = residual_bytes(model.text, sizes.length, itemsize, "none")
    image = model.num_image_features * model.feature_width * itemsize
    logits = max(TARGETS.values()) * rows * model.text.vocab_size * _FLOAT32
    return {
        "frozen weights": local_bytes(frozen),
        "trainable weights, AdamW's two moments": 3 * trainable,
        "θ + ε*, and gradients there, of L_neg and of the others": 4 * trainable,
        f"kept for the backward pass, {rows} row{'s' * (rows > 1)} × {model.text.num_layers} layers": (
            rows * model.text.num_layers * kept
        ),
        # What a layer computes, and as much again of each gradient on the way back through it.
        "one layer at work": (1 + gradients) * rows * whole,
        "gathered weights: two layers and the head": _gathered_bytes(model, frozen, mesh),
        "logits and their gradient": (1 + gradients) * logits,
        "image features": (1 if sizes.packed else 3) * sizes.rows // sizes.devices * image,
    }


def attack_bytes(model: ModelShape, planned: PlannedStep, mesh: Mesh, length: int, remat: str) -> Parts:
    """What one device holds when the backward pass of an attack's training step begins.

    Args:
      model: sizes of the language model and of the image features.
      planned: the step as shapes.
      mesh: devices that share rows and weights.
      length: T, tokens of a row.
      remat: as `model.remat`.

    Returns:
      Part → bytes. The inputs of products with adapters, and what is dropped of them, are not counted: where
      a layer is computed again they are those of one layer.
    """
    state, frozen, batch, _ = planned.arguments
    rows, itemsize = planned.rows_at_once, _itemsize(frozen)
    trainable = sum(leaf.size for leaf in jax.tree.leaves(state.params)) * _FLOAT32
    logits = batch["targets"].shape[1] * rows * model.text.vocab_size * _FLOAT32
    return {
        "frozen weights": local_bytes(frozen),
        "trainable weights, Adam's two moments": 3 * trainable,
        "gradients of one part of the batch, and their sum": 2 * trainable,
        f"kept for the backward pass, {rows} row{'s' * (rows > 1)} × {model.text.num_layers} layers": (
            rows * model.text.num_layers * residual_bytes(model.text, length, itemsize, remat)
        ),
        "one layer at work": 2 * rows * residual_bytes(model.text, length, itemsize, "none"),
        "gathered weights: two layers and the head": _gathered_bytes(model, frozen, mesh),
        "logits and their gradient": 2 * logits,
        "image features": local_bytes(batch["features"]),
    }


def captioning_bytes(
    model: ModelShape, params: partition.Tree, frozen: partition.Tree, mesh: Mesh, sizes: Captioning
) -> Parts:
    """What one device holds while the prompts of a batch are read; arguments as in `training_bytes`."""
    text, itemsize = model.text, _itemsize(frozen)
    # Beams, and questions about one image, share their prompt's keys and values.
    beams = sizes.decoding.num_beams * sizes.questions
    tokens = sizes.prompt + beams * (sizes.tail + sizes.new)
    head = text.head_size * itemsize if sizes.decoding.cache == "as_weights" else text.head_size + _FLOAT32
    cache = 2 * text.num_layers * text.num_kv_heads * head * tokens
    trainable = sum(leaf.size for leaf in jax.tree.leaves(params)) * _FLOAT32
    layer = residual_bytes(text, sizes.prompt, itemsize, "none")
    image = model.num_image_features * model.feature_width * itemsize
    rows = sizes.rows_at_once
    read = jax.ShapeDtypeStruct((sizes.rows, sizes.prompt, text.width), _dtype(frozen))
    at_work = Target("gpu", sizes.devices).pieces(read).rows
    return {
        "frozen weights": local_bytes(frozen),
        "trainable weights": trainable,
        f"keys and values, {rows} rows × {tokens} tokens": rows * cache,
        f"one layer at work on {at_work} of them": at_work * layer,
        "hidden states": rows * sizes.prompt * text.width * itemsize,
        "gathered weights: two layers and the head": _gathered_bytes(model, frozen, mesh),
        "logits": rows * beams * text.vocab_size * _FLOAT32,
        "image features": rows * image,
    }


def residual_bytes(text: TextConfig, length: int, itemsize: int, remat: str) -> int:
    """Bytes that one layer of the language model keeps of one row for its backward pass.

    Only gradients with respect to activations are taken, so inputs of products with weights are not kept.

    Args:
      text: shapes of the language model.
      length: T, tokens of the row.
      itemsize: bytes of one number in the weights' dtype.
      remat: as `model.remat`. `full` keeps the layer's input; `dots` that and the results of the seven
        products but the last; `none` what flash attention keeps (queries, keys, values, its output), the five
        arrays of SwiGLU, and the two norms' inputs and results in float32.
    """
    queries, keys = text.num_heads * text.head_size, text.num_kv_heads * text.head_size
    token = {
        "full": itemsize * text.width,
        "dots": itemsize * (2 * text.width + queries + 2 * keys + 2 * text.mlp),
        "none": itemsize * (2 * queries + 2 * keys + 5 * text.mlp) + 4 * _FLOAT32 * text.width,
    }
    return length * token[remat]


def _gathered_bytes(model: ModelShape, frozen: partition.Tree, mesh: Mesh) -> int:
    """Bytes of weights that a device gathers: two layers, of which one runs and one is fetched, and the head.

    0 where each device holds the weights whole.
    """
    if mesh.shape[FSDP] == 1:
        return 0
    flat = partition.flatten(frozen)
    layers = [leaf for path, leaf in flat.items() if path.startswith(model.layers)]
    ends = [leaf for path, leaf in flat.items() if path in model.ends]
    one = sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in layers)
    return 2 * one + max(leaf.size * leaf.dtype.itemsize for leaf in ends)


def _itemsize(frozen: partition.Tree) -> int:
    return _dtype(frozen).itemsize


def _dtype(frozen: partition.Tree) -> jnp.dtype:
    return jax.tree.leaves(frozen)[0].dtype
