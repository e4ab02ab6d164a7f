"""Programs of a run that are no training step and write no text, lowered from shapes."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sare_jax.objectives.needs import StartingNeed
from sare_jax.plan.compiled import Abstract, Program, array, frozen_dtype, unit_rows
from sare_jax.plan.sizes import TARGETS, Training
from sare_jax.training import asking, choices, landscape, starting
from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import by_rows, gathering, replicated


@dataclass(frozen=True)
class Questions:
    """Questions that go on side by side from what an image's have in common.

    Attributes:
      rows: images at a time, over all devices.
      shared: tokens that the questions about an image begin with, image slots included.
      width: questions at a time.
      longest: tokens of the longest one behind these.
    """

    rows: int
    shared: int
    width: int
    longest: int


@dataclass(frozen=True)
class Openings:
    """Captions whose openings are read.

    Attributes:
      rows: captions at a time, over all devices.
      length: T, tokens of prompt and caption.
      most: openings of a caption.
      words: tokens of the longest phrase before a name, and the name's first.
      names: V, objects that could be named.
    """

    rows: int
    length: int
    most: int
    words: int
    names: int


def encoding(model: Abstract, mesh: Mesh, images: int) -> Program:
    """The image encoder on so many of the largest images."""
    from sare_jax.inference.features import encode_images

    pixels = array((images, *model.shape.picture), jnp.float32, by_rows(mesh))
    return _program(model, mesh, encode_images, (pixels,))


def odds(model: Abstract, mesh: Mesh, sizes: Questions) -> Program:
    """Log-odds of the answers to questions (`training.asking`)."""
    rows = by_rows(mesh)
    batch = {
        "tokens": array((sizes.rows, sizes.shared), jnp.int32, rows),
        "lengths": array((sizes.rows,), jnp.int32, rows),
        "tails": array((sizes.rows, sizes.width, sizes.longest), jnp.int32, rows),
        "ends": array((sizes.rows, sizes.width), jnp.int32, rows),
        "features": _features(model, mesh, sizes.rows),
    }
    answers = array((2,), jnp.int32, replicated(mesh))
    return _merging(model, mesh, asking.evaluation(mesh, model.merge), (batch, answers))


def probing(model: Abstract, mesh: Mesh, sizes: Openings) -> Program:
    """Log-probabilities of all objects at openings (`training.choices`)."""
    rows = by_rows(mesh)
    openings = (sizes.rows, sizes.most, sizes.words)
    batch = {
        "tokens": array((sizes.rows, sizes.length), jnp.int32, rows),
        "positions": array(openings, jnp.int32, rows),
        "targets": array(openings, jnp.int32, rows),
        "ahead": array(openings, jnp.bool_, rows),
        "features": _features(model, mesh, sizes.rows),
    }
    names = array((sizes.names,), jnp.int32, replicated(mesh))
    return _merging(model, mesh, choices.evaluation(mesh, model.merge), (batch, names))


def measuring(model: Abstract, mesh: Mesh, sizes: Training, needs: tuple[StartingNeed, ...]) -> Program:
    """What an objective needs of the starting weights, on rows of one unit (`training.starting`)."""
    batch = unit_rows(model, sizes, TARGETS["sent"], by_rows(mesh))
    del batch["valid"]
    return _merging(model, mesh, starting.evaluation(mesh, model.merge, needs), (batch,))


def scanning(model: Abstract, mesh: Mesh, sizes: Training) -> Program:
    """The gradient of the landscape's loss on units of D_neg (`training.landscape`)."""
    batch = unit_rows(model, sizes, TARGETS["neg"], by_rows(mesh))
    policy = remat_policy(sizes.remat, mesh)
    held = (model.params, model.frozen, batch)
    with gathering(mesh):
        traced = landscape.gradient.trace(model.graphdef, *held, policy)
        return Program(traced.jaxpr, traced.lower(), held, mesh)


def reading(model: Abstract, mesh: Mesh, sizes: Training) -> Program:
    """The landscape's loss itself."""
    batch = unit_rows(model, sizes, TARGETS["neg"], by_rows(mesh))
    return _program(model, mesh, landscape.summed_loss, (batch,))


def _program(model: Abstract, mesh: Mesh, function: Any, arrays: tuple) -> Program:
    held = (model.params, model.frozen, *arrays)
    with gathering(mesh):
        traced = function.trace(model.graphdef, *held)
        return Program(traced.jaxpr, traced.lower(), held, mesh)


def _merging(model: Abstract, mesh: Mesh, function: Any, arrays: tuple) -> Program:
    held = (model.params, model.frozen, *arrays)
    with gathering(mesh):
        traced = function.trace(*held)
        return Program(traced.jaxpr, traced.lower(), held, mesh)


def _features(model: Abstract, mesh: Mesh, rows: int) -> jax.ShapeDtypeStruct:
    image = (model.shape.num_image_features, model.shape.feature_width)
    return array((rows, *image), frozen_dtype(model), by_rows(mesh))
