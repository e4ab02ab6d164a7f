"""Log-odds of two answers to many questions about each image.

The tokens before the first one in which the questions about an image differ, its image slots among them, are
read once; the questions go on from there side by side, as beams do. An image takes hundreds of tokens and a
question a dozen, so that this costs a fraction of a row a question.
"""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sare_jax import files
from sare_jax.data.batches import Unit
from sare_jax.inference.sharing import common
from sare_jax.models.interface import LoadedModel
from sare_jax.progress import Bar
from sare_jax.rounding import round_up
from sare_jax.training.kept import Chunk, kept_chunks
from sare_jax.training.sharding import gathering, replicated, spread_rows
from sare_jax.training.starting import Features
from sare_jax.training.state import Params
from sare_jax.training.static import Merge

MOST = 32  # questions that go on from one image at a time
MULTIPLE = 4  # of prompts' and questions' lengths, so that few programs are compiled
CHUNK = 256  # groups in a file

Group = list[Unit]


def answer_odds(
    questions: Sequence[Unit],
    yes: int,
    no: int,
    *,
    loaded: LoadedModel,
    features: Features,
    mesh: Mesh,
    batch_size: int,
    pad_id: int,
    folder: Path,
    made_from: Mapping[str, Any],
) -> np.ndarray:
    """How much likelier each question's answer is to begin with one token than with another.

    Args:
      questions: units with one target token each, whose place counts and not the token itself; those about
        one image stand together.
      yes: token whose logit counts for.
      no: token whose logit counts against.
      loaded: the starting weights, placed on the mesh.
      features: gives the image features of image file names.
      mesh: devices that share the images.
      batch_size: images at a time.
      pad_id: fills rows on the right.
      folder: where finished chunks are kept.
      made_from: JSON-able values that features and weights depend on, beside the model's content.

    Returns:
      float32[n], in nats.
    """
    groups = list(_groups(questions))
    evaluate = evaluation(mesh, loaded.merge)
    images = round_up(batch_size, mesh.size)

    def compute(first: int, last: int, progress: Bar) -> Chunk:
        odds = []
        for start in range(first, last, images):
            batch = groups[start : min(start + images, last)]
            arrays = _arrays(batch, images, pad_id)
            filled = [*batch, *[batch[0]] * (images - len(batch))]
            arrays["features"] = features([group[0].image for group in filled])
            with gathering(mesh):
                found = evaluate(loaded.params, loaded.frozen, spread_rows(arrays, mesh), np.array([yes, no]))
            values = np.asarray(jax.device_get(found))
            odds += [row[: len(group)] for row, group in zip(values, batch, strict=False)]
            progress.update(len(batch))
        return {"odds": np.concatenate(odds)}

    name = f"odds-{_fingerprint(questions, yes, no, loaded, made_from)[:16]}"
    chunks = kept_chunks(folder / name, len(groups), CHUNK, compute, label="questions", unit="image")
    return np.concatenate([chunk["odds"] for chunk in chunks]) if chunks else np.zeros(0, np.float32)


def _groups(questions: Sequence[Unit]) -> Iterator[Group]:
    """Questions about one image, `MOST` of them at the most."""
    for _, about in itertools.groupby(questions, key=lambda unit: unit.image):
        units = list(about)
        yield from (units[first : first + MOST] for first in range(0, len(units), MOST))


def _arrays(batch: Sequence[Group], rows: int, pad_id: int) -> dict[str, np.ndarray]:
    """What the questions of each image share, `tokens` and `lengths`, and how they go on, `tails` and `ends`.

    Rows beyond the batch, and questions beyond a group's, hold one padding token, whose answer is not read.
    """
    shared = [_shared(group) for group in batch]
    tails = [
        [unit.tokens[size : unit.start] for unit in group] for group, size in zip(batch, shared, strict=True)
    ]
    longest = round_up(max(len(tail) for group in tails for tail in group), MULTIPLE)
    width = round_up(max(map(len, batch)), MULTIPLE)
    arrays = {
        "tokens": np.full((rows, round_up(max(shared), MULTIPLE)), pad_id, np.int32),
        "lengths": np.ones(rows, np.int32),
        "tails": np.full((rows, width, longest), pad_id, np.int32),
        "ends": np.ones((rows, width), np.int32),
    }
    for row, (group, size) in enumerate(zip(batch, shared, strict=True)):
        arrays["tokens"][row, :size] = group[0].tokens[:size]
        arrays["lengths"][row] = size
        for place, tail in enumerate(tails[row]):
            arrays["tails"][row, place, : len(tail)] = tail
            arrays["ends"][row, place] = len(tail)
    return arrays


def _shared(group: Group) -> int:
    """Tokens that all questions begin with; each goes on with one of its own at least."""
    return common([unit.tokens[: unit.start] for unit in group])


@functools.cache
def evaluation(mesh: Mesh, merge: Merge) -> Callable[..., jax.Array]:
    """The program (params, frozen, rows, the two tokens) → log-odds, for rows from `_arrays`."""

    def evaluate(params: Params, frozen: Params, rows: dict[str, jax.Array], answers: jax.Array) -> jax.Array:
        """float32[B, R], the log-odds behind each question."""
        model = merge(params, frozen)
        tails, ends = rows["tails"], rows["ends"]
        _, width, longest = tails.shape
        _, cache = model.prefill(rows["tokens"], rows["features"], rows["lengths"], width, longest)
        logits, _ = model.extend(tails, rows["lengths"], ends, cache, model.parts())
        return logits[..., answers[0]] - logits[..., answers[1]]

    # Whole on each device, so that every host can read it.
    return jax.jit(evaluate, out_shardings=replicated(mesh))


def _fingerprint(
    questions: Sequence[Unit], yes: int, no: int, loaded: LoadedModel, made_from: Mapping[str, Any]
) -> str:
    """SHA-256 in hex of everything that the values depend on."""
    digest = hashlib.sha256()
    for unit in questions:
        digest.update(f"{unit.image} {unit.start} ".encode() + np.asarray(unit.tokens, np.int32).tobytes())
    return files.hash_value([loaded.content_hash, dict(made_from), digest.hexdigest(), yes, no])
