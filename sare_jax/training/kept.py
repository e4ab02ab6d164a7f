"""Arrays that are computed chunk by chunk and kept in files, so that an interruption costs one chunk."""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import logging

from sare_jax import hosts
from sare_jax.errors import UserError
from sare_jax.progress import COMPILING, Bar, bar
from sare_jax.records.arrays import read_arrays, write_arrays

Chunk = dict[str, np.ndarray]


def kept_chunks(
    folder: Path,
    count: int,
    size: int,
    compute: Callable[[int, int, Bar], Chunk],
    *,
    label: str,
    unit: str,
) -> list[Chunk]:
    """The chunks of `count` items; those that are on disk already are read, not computed.

    Args:
      folder: where the chunks are kept; named by all that they depend on.
      count: number of items.
      size: items of a chunk.
      compute: (first, last, bar) → the arrays of the items from first to before last; moves the bar.
      label: shown with the progress.
      unit: what one item is called there.
    """
    edges = [*range(0, count, size), count]
    paths = [folder / f"{first:08d}.npz" for first in edges[:-1]]
    # All are read before one is written, so that all hosts see the same files.
    chunks = [_read(path) for path in paths]
    done = sum(
        last - first for (first, last), chunk in zip(itertools.pairwise(edges), chunks, strict=True) if chunk
    )
    with bar(count, label, done=done, unit=unit, waiting=COMPILING) as progress:
        for number, (first, last) in enumerate(itertools.pairwise(edges)):
            if chunks[number] is None:
                made = compute(first, last, progress)
                path = paths[number]
                hosts.first_only(functools.partial(write_arrays, path, made), f"write {path.name}")
                chunks[number] = made
    return [chunk for chunk in chunks if chunk is not None]


def _read(path: Path) -> Chunk | None:
    """The chunk of a file; None where there is none that can be read, which is then made again."""
    try:
        return read_arrays(path)
    except UserError as error:
        if path.exists():
            logging.warning("%s; made again", error)
        return None
