"""The curated sets D_neg, D_pos and D_sent as plain files. Numpy alone, so that both sides can use it."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.records.arrays import read_arrays
from sare_jax.schema import checked

Table = TypeVar("Table", "Rows", "Units", "Sentences")


@dataclass(frozen=True)
class Rows:
    """The captions that units were cut from, one a row.

    Attributes:
      image: <U[R], file name.
      image_id: int64[R].
      caption: <U[R], as the model gave it.
    """

    image: np.ndarray
    image_id: np.ndarray
    caption: np.ndarray

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Units:
    """Sub-sentence units: pre(o) is `caption[:start]` and cur(o) is `caption[start:end]`.

    cur(o) keeps its leading space and loses its trailing punctuation (protocols 1.4). One unit an object, so
    that a sub-sentence with two chosen objects stands here twice.

    Attributes:
      row: int32[N], index into `Rows`.
      start, end: int32[N], span of cur(o) in characters of the caption.
      object: <U[N], the object's name as extracted.
      mention_start, mention_end: int32[N], span of its mention in characters of the caption.
      score: float32[N], CLIP score S(o).
    """

    row: np.ndarray
    start: np.ndarray
    end: np.ndarray
    object: np.ndarray
    mention_start: np.ndarray
    mention_end: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Sentences:
    """Whole captions that are reliable.

    Attributes:
      row: int32[N], index into `Rows`.
      score: float32[N], mean CLIP score of the caption's objects, S(y).
      score_min: float32[N], the smallest of them.
    """

    row: np.ndarray
    score: np.ndarray
    score_min: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Curated:
    """D_neg, D_pos and D_sent over one list of captions, and how they came about.

    Attributes:
      rows: the captions.
      neg, pos: sub-sentence units, hallucinated and grounded.
      sent: whole captions.
      manifest: JSON-able record of rule, thresholds, models and counts.
    """

    rows: Rows
    neg: Units
    pos: Units
    sent: Sentences
    manifest: dict


# Kinds of dtype that a column may have on disk, and the dtype that it has in memory.
_COLUMNS = {
    "image": ("U", None),
    "image_id": ("iu", np.int64),
    "caption": ("U", None),
    "row": ("iu", np.int32),
    "start": ("iu", np.int32),
    "end": ("iu", np.int32),
    "object": ("U", None),
    "mention_start": ("iu", np.int32),
    "mention_end": ("iu", np.int32),
    "score": ("f", np.float32),
    "score_min": ("f", np.float32),
}


def write_curated(folder: Path, curated: Curated) -> None:
    """Writes the sets into `folder`, which is replaced when all of them are whole.

    Raises:
      UserError: a row index or a span lies outside of what it points into, or columns differ in length.
    """
    folder = Path(folder)
    _check(curated, folder)
    with files.replacing(folder) as draft:
        draft.mkdir()
        for name in ("rows", "neg", "pos", "sent"):
            table = getattr(curated, name)
            columns: dict[str, Any] = {f.name: _column(getattr(table, f.name), f.name) for f in fields(table)}
            np.savez_compressed(draft / f"{name}.npz", **columns)
        files.write_json(draft / "manifest.json", curated.manifest)


def read_curated(folder: Path, way_out: str = "run the curate stage again") -> Curated:
    """Reads what `write_curated` wrote, or what somebody else wrote in that form (docs/own_data.md).

    Args:
      folder: holds `rows.npz`, `neg.npz`, `pos.npz`, `sent.npz` and `manifest.json`.
      way_out: end of the messages about a file that cannot be used.

    Raises:
      UserError: a file is missing, is no npz or lacks a column, or a span lies outside of its caption; names
        the file.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    manifest = checked(files.read_json(path), dict[str, Any], str(path)) if path.exists() else {}
    most = _counted(manifest)
    curated = Curated(
        rows=_read(folder / "rows.npz", Rows, sum(most.values()), way_out),  # each of a unit or a sentence
        neg=_read(folder / "neg.npz", Units, most["neg"], way_out),
        pos=_read(folder / "pos.npz", Units, most["pos"], way_out),
        sent=_read(folder / "sent.npz", Sentences, most["sent"], way_out),
        manifest=manifest,
    )
    _check(curated, folder)
    if not path.exists():
        raise UserError(f"{path}: no such file; {way_out}")
    return curated


def _counted(manifest: dict[str, Any]) -> dict[str, float]:
    """How many units each set has by the manifest; infinity where it does not say."""
    counts = manifest.get("counts")
    counts = counts if isinstance(counts, dict) else {}
    known = {name: counts.get(name) for name in ("neg", "pos", "sent")}
    return {name: count if type(count) is int else math.inf for name, count in known.items()}


def _column(values: np.ndarray, name: str) -> np.ndarray:
    """In the dtype that the column has; an empty list has none of its own, so text is asked for by kind."""
    _, dtype = _COLUMNS[name]
    return np.asarray(values, dtype or np.str_)


def _read(path: Path, kind: type[Table], most: float, way_out: str) -> Table:
    names = [f.name for f in fields(kind)]
    if not path.exists():
        raise UserError(f"{path}: no such file; {way_out}")
    try:
        columns = read_arrays(path, most=most)
    except UserError as error:
        raise UserError(f"{error}; {way_out}") from None
    missing = [name for name in names if name not in columns]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; {way_out}")
    columns = {name: columns[name] for name in names}
    for name, values in columns.items():
        kinds, _ = _COLUMNS[name]
        if values.ndim != 1 or values.dtype.kind not in kinds:
            raise UserError(f"{path}: {name} is {values.dtype}{list(values.shape)}; {way_out}")
    return kind(**{name: _column(values, name) for name, values in columns.items()})


def _check(curated: Curated, folder: Path) -> None:
    """Refuses tables that do not fit together."""
    for name in ("rows", "neg", "pos", "sent"):
        table = getattr(curated, name)
        lengths = {len(getattr(table, f.name)) for f in fields(table)}
        if len(lengths) > 1:
            raise UserError(f"{folder / name}.npz: columns differ in length")
    signs = np.char.str_len(_column(curated.rows.caption, "caption"))
    for name in ("neg", "pos", "sent"):
        row = np.asarray(getattr(curated, name).row)
        if len(row) and not (row.min() >= 0 and row.max() < len(signs)):
            raise UserError(
                f"{folder / name}.npz: row points outside of the {len(signs)} captions of rows.npz"
            )
    for name in ("neg", "pos"):
        units = getattr(curated, name)
        for start, end in ((units.start, units.end), (units.mention_start, units.mention_end)):
            start, end = np.asarray(start, np.int64), np.asarray(end, np.int64)
            wrong = (start < 0) | (start >= end) | (end > signs[np.asarray(units.row, np.int64)])
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                raise UserError(
                    f"{folder / name}.npz: unit {at} has the span {start[at]}:{end[at]}, not in its caption"
                )
