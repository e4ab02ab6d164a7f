"""What an objective needs from the starting weights, measured once and kept.

The same code serves every such need: rows of one unit go through the starting weights over the whole mesh, a
chunk of rows is one file, and an interrupted measurement goes on behind its last chunk. A folder is named by
what it was made from (model, precision, rows, needs), so that nothing stale is ever used, and runs with the
same needs share it.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sare_jax import files
from sare_jax.data.batches import SETS, TokenSet, TokenSets, finetune_batches
from sare_jax.models.interface import LoadedModel
from sare_jax.objectives.needs import Need, StartingNeed, layer_of
from sare_jax.progress import Bar
from sare_jax.training.kept import Chunk, kept_chunks
from sare_jax.training.losses import target_outputs
from sare_jax.training.sharding import gathering, replicated, spread_rows
from sare_jax.training.state import Params
from sare_jax.training.static import Merge

# Image file names → float[n, P, D_v] vision features; usually a `FeatureCache`.
Features = Callable[[Sequence[str]], np.ndarray]

CHUNK = 1024  # rows in a file; its arrays are "unit/NAME" [n] and "token/NAME" [all target tokens, …]


def with_starting_values(
    sets: TokenSets,
    needs: Sequence[Need],
    loaded: LoadedModel,
    features: Features,
    mesh: Mesh,
    *,
    batch_size: int,
    folder: Path,
    made_from: Mapping[str, Any],
) -> TokenSets:
    """The sets, their units with what the needs measure under the starting weights.

    Args:
      sets: the three sets as token rows.
      needs: `Objective.needs`; those that are no `StartingNeed` are ignored here.
      loaded: the starting weights, placed on the mesh.
      features: gives the image features of image file names.
      mesh: devices that share the rows.
      batch_size: rows at a time.
      folder: where the values are kept.
      made_from: JSON-able values that features and weights depend on, beside the model's content.
    """
    for kind in SETS:
        for measured_on in ("units", "preferred"):
            units = getattr(sets, kind)
            rows = units if measured_on == "units" else units.preferred
            wanted = tuple(
                need
                for need in needs
                if isinstance(need, StartingNeed) and kind in need.sets and need.measured_on == measured_on
            )
            if wanted and rows:
                name = f"{kind}-{_fingerprint(rows, wanted, loaded, made_from)[:16]}"
                chunks = _measured(rows, wanted, loaded, features, mesh, batch_size, folder / name)
                sets = sets.having(kind, _joined(units, rows, chunks))
    return sets


def _fingerprint(
    units: TokenSet, needs: tuple[StartingNeed, ...], loaded: LoadedModel, made_from: Mapping[str, Any]
) -> str:
    """SHA-256 in hex of everything that the measured values depend on."""
    digest = hashlib.sha256()
    for tokens, start, image in zip(units.tokens, units.start, units.image, strict=True):
        digest.update(f"{image} {start} {len(tokens)} ".encode() + np.asarray(tokens, np.int32).tobytes())
    kinds = [f"{type(need).__module__}.{need!r}" for need in needs]
    return files.hash_value([loaded.content_hash, dict(made_from), digest.hexdigest(), kinds])


def _measured(
    units: TokenSet,
    needs: tuple[StartingNeed, ...],
    loaded: LoadedModel,
    features: Features,
    mesh: Mesh,
    batch_size: int,
    folder: Path,
) -> list[Chunk]:
    """The values of all units, chunk by chunk; chunks that are on disk already are read, not computed."""
    evaluate = evaluation(mesh, loaded.merge, needs)

    def compute(first: int, last: int, progress: Bar) -> Chunk:
        made: list[Chunk] = []
        for batch in finetune_batches(
            units, np.arange(first, last), batch_size=batch_size, row_multiple=mesh.size
        ):
            valid, ends, starts = (batch.pop(key) for key in ("valid", "end", "start"))
            rows = {"tokens": batch["tokens"], "targets": batch["targets"], "start": starts, "end": ends}
            rows["features"] = features(batch["image"].tolist())
            with gathering(mesh):
                values = evaluate(loaded.params, loaded.frozen, spread_rows(rows, mesh))
            made.append(_compact(jax.device_get(values), valid > 0, ends - starts))
            progress.update(int(valid.sum()))
        return {name: np.concatenate([part[name] for part in made]) for name in made[0]}

    return kept_chunks(folder, len(units), CHUNK, compute, label="starting weights", unit="unit")


@functools.cache
def evaluation(mesh: Mesh, merge: Merge, needs: tuple[StartingNeed, ...]) -> Callable[..., Any]:
    """The program (params, frozen, rows of one unit) → what the needs keep of each unit and token."""

    def evaluate(params: Params, frozen: Params, rows: Any) -> dict[str, dict[str, jax.Array]]:
        log_probs, mask, outputs = target_outputs(merge(params, frozen), rows, layer=layer_of(needs))
        by_unit: dict[str, jax.Array] = {}
        by_token: dict[str, jax.Array] = {}
        for need in needs:
            by_unit |= need.by_unit(log_probs, mask)
            by_token |= need.by_token(outputs)
        return {"unit": by_unit, "token": by_token}

    # Whole on each device, so that every host can read it.
    return jax.jit(evaluate, out_shardings=replicated(mesh))


def _compact(values: dict[str, dict[str, np.ndarray]], real: np.ndarray, counts: np.ndarray) -> Chunk:
    """Drops the padding: rows that are no unit, and behind each unit what follows its last target token."""
    is_target = np.arange(max(map(int, counts), default=0)) < np.where(real, counts, 0)[:, None]
    chunk = {f"unit/{name}": array[real] for name, array in values["unit"].items()}
    for name, array in values["token"].items():
        chunk[f"token/{name}"] = array[:, : is_target.shape[1]][is_target]
    return chunk


def _joined(units: TokenSet, rows: TokenSet, chunks: Sequence[Chunk]) -> TokenSet:
    """The units with the values of all chunks, which were measured on `rows`, one for each unit."""
    values = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    counts = [len(tokens) - int(start) for tokens, start in zip(rows.tokens, rows.start, strict=True)]
    edges = np.cumsum(counts)[:-1]
    by_unit, by_token = dict(units.by_unit), dict(units.by_token)
    for name, array in values.items():
        per, _, key = name.partition("/")
        if per == "unit":
            by_unit[key] = array.astype(np.float32)
        else:
            by_token[key] = np.split(array, edges)
    return dataclasses.replace(units, by_unit=by_unit, by_token=by_token)
