"""How probable every name is at openings of captions, under some weights."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sare_jax.models.interface import LoadedModel
from sare_jax.progress import COMPILING, track
from sare_jax.rounding import round_up
from sare_jax.settings.auto import Lowered, Sizer
from sare_jax.training.sharding import by_rows, gathering, replicated, spread_rows
from sare_jax.training.state import Params
from sare_jax.training.static import Merge

Features = Callable[[Sequence[str]], np.ndarray]
_STEP = 16  # rows and phrases are padded to multiples, so that few programs are compiled


class Caption(NamedTuple):
    """A caption with its openings.

    Attributes:
      image: file name.
      tokens: of prompt and caption.
      places: of each opening, the token of its article and the first token of its name.
    """

    image: str
    tokens: list[int]
    places: list[tuple[int, int]]


def name_log_probs(
    loaded: LoadedModel,
    params: Params,
    captions: Sequence[Caption],
    names: Sequence[int],
    *,
    features: Features,
    pad_id: int,
    mesh: Mesh,
    batch_size: int | Sizer,
    label: str = "openings",
) -> np.ndarray:
    """Log p of naming each object at each opening: the words before the name as they are, then the name.

    Args:
      loaded: the model.
      params: trainable weights.
      captions: with their openings.
      names: first token of each of V names.
      features: image features by file name.
      pad_id: fills rows on the right.
      mesh: devices that share the rows.
      batch_size: captions at a time, over all devices, or what chooses their number.
      label: shown with the progress.

    Returns:
      float32[openings of all captions in order, V].
    """
    asked = [caption for caption in captions if caption.places]
    if not asked:
        return np.zeros((0, len(names)), np.float32)
    length = round_up(max(len(caption.tokens) for caption in asked), _STEP)
    most = max(len(caption.places) for caption in asked)
    words = 1 + max(name - start for caption in asked for start, name in caption.places)
    evaluate = evaluation(mesh, loaded.merge)
    tokens_of_names = np.asarray(names, np.int32)

    def lowered(rows: int) -> Lowered:
        shape, sharding = loaded.shape, by_rows(mesh)
        image = (rows, shape.num_image_features, shape.feature_width)
        arrays: dict[str, Any] = {**_arrays(asked[:1], rows, length, most, words, pad_id)}
        arrays["features"] = jax.ShapeDtypeStruct(image, jax.tree.leaves(loaded.frozen)[0].dtype)
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), arrays)
        with gathering(mesh):
            made = evaluate.lower(params, loaded.frozen, batch, tokens_of_names)
        return Lowered(made, (params, loaded.frozen, batch))

    if not isinstance(batch_size, int):
        about = {"openings": [length, most, words], "names": len(names)}
        batch_size = batch_size.rows(lowered, multiple=mesh.size, most=len(asked), about=about)
    rows = round_up(min(batch_size, len(asked)), mesh.size)
    found = []
    batches = [asked[first : first + rows] for first in range(0, len(asked), rows)]
    for batch in track(batches, label, total=len(batches), unit="batch", waiting=COMPILING):
        arrays = _arrays(batch, rows, length, most, words, pad_id)
        arrays["features"] = features([caption.image for caption in _filled(batch, rows)])
        with gathering(mesh):
            computed = evaluate(params, loaded.frozen, spread_rows(arrays, mesh), tokens_of_names)
        values = np.asarray(jax.device_get(computed))
        found += [row[: len(caption.places)] for row, caption in zip(values, batch, strict=False)]
    return np.concatenate(found)


@functools.cache
def evaluation(mesh: Mesh, merge: Merge) -> jax.stages.Wrapped:
    """The program (params, frozen, rows, names) → log-probabilities, for rows from `_arrays`."""

    def evaluate(params: Params, frozen: Params, rows: dict[str, Any], names: jax.Array) -> jax.Array:
        model = merge(params, frozen)
        count, most, words = rows["targets"].shape
        hidden = model.read(
            rows["tokens"],
            model.project(rows["features"]),
            positions=rows["positions"].reshape(count, most * words),
        )
        logits = model.logits(hidden).astype(jnp.float32).reshape(count, most, words, -1)
        log_probs = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        ahead = jnp.take_along_axis(log_probs, rows["targets"][..., None], axis=-1)[..., 0]
        phrase = jnp.sum(jnp.where(rows["ahead"], ahead, 0), axis=-1)
        # The last position of each opening predicts the name.
        return phrase[..., None] + log_probs[:, :, -1][..., names]

    return jax.jit(evaluate, out_shardings=replicated(mesh))


def _filled(batch: Sequence[Caption], rows: int) -> list[Caption]:
    """The batch with its first caption again in place of missing ones."""
    return [*batch, *[batch[0]] * (rows - len(batch))]


def _arrays(
    batch: Sequence[Caption], rows: int, length: int, most: int, words: int, pad_id: int
) -> dict[str, np.ndarray]:
    """Tokens, and for each opening the positions that predict its words, right-aligned, the name's last."""
    tokens = np.full((rows, length), pad_id, np.int32)
    positions = np.zeros((rows, most, words), np.int32)
    targets = np.zeros((rows, most, words), np.int32)
    ahead = np.zeros((rows, most, words), bool)
    for row, caption in enumerate(_filled(batch, rows)):
        tokens[row, : len(caption.tokens)] = caption.tokens
        for place, (start, name) in enumerate(caption.places):
            first = words - 1 - (name - start)
            positions[row, place, first:] = np.arange(start - 1, name)
            targets[row, place, first:-1] = caption.tokens[start:name]
            ahead[row, place, first:-1] = True
    return {"tokens": tokens, "positions": positions, "targets": targets, "ahead": ahead}
