"""Scores units on their images, batch by batch; every finished batch is kept on disk.

The order of images, and so the batches, do not depend on earlier runs, and a batch's arithmetic does not
depend on other batches. So a run that was killed continues with the next batch and gives the same numbers,
with any engine.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np
from absl import logging

from sare_jax.curation.clip import Clip
from sare_jax.curation.extraction import Scored
from sare_jax.curation.scoring import ImageFeatures, encode_images, score_objects, view_parts
from sare_jax.curation.units import phrases_of
from sare_jax.curation.windows import Windows
from sare_jax.data.images import MOST_PIXELS, ImageError, image_path
from sare_jax.errors import UserError
from sare_jax.progress import bar
from sare_jax.records.arrays import read_arrays, write_arrays
from sare_jax.records.journal import Journal

_PHRASE_BATCH = 256

BadImages = Literal["skip", "raise"]


@dataclass(frozen=True)
class Work:
    """Batch sizes and threads.

    Attributes:
      image_batch: images per batch, which is also the most that an interruption repeats.
      view_batch: windows that the image encoder takes at once.
      workers: threads that decode and cut images.
    """

    image_batch: int = 16
    view_batch: int = 64
    workers: int = 2


DEFAULT_WORK = Work()


@dataclass(frozen=True)
class Plan:
    """How images are scored: window geometry (None scores whole images), folder, batches, largest image."""

    windows: Windows | None
    images: Path
    work: Work
    max_pixels: int = MOST_PIXELS


@dataclass(frozen=True)
class Job:
    """One image, and for each of its captions the indices of its objects in `Scorer.phrases`."""

    image: str
    phrases: tuple[tuple[int, ...], ...]


Batch = Sequence[Job]


@dataclass(frozen=True)
class Scorer:
    """Scores batches: model, plan, and the text features float32[phrases, D] of all distinct phrases."""

    clip: Clip
    plan: Plan
    phrases: np.ndarray

    def run(self, batches: Iterable[Batch]) -> Iterator[list[dict]]:
        """Yields the records of each batch; the next batches' images are decoded meanwhile."""
        batches = list(batches)
        work, images = self.plan.work, self.plan.images
        paths = (image_path(images, job.image) for batch in batches for job in batch)
        limits = {"workers": work.workers, "max_pixels": self.plan.max_pixels}
        parts = view_parts(paths, self.clip, self.plan.windows, **limits)
        for batch in batches:
            encoded = encode_images(parts, len(batch), self.clip, work.view_batch)
            yield [self._record(job, image) for job, image in zip(batch, encoded, strict=True)]

    def _record(self, job: Job, image: ImageFeatures | ImageError) -> dict:
        """An image's scores, caption by caption; the reason where it cannot be decoded."""
        if isinstance(image, ImageError):
            kind = re.split(r"[,(]", image.reason)[0].strip()  # without details of this file, to be counted
            return {"image": job.image, "dropped": f"image {kind}", "detail": f"{job.image}: {image.reason}"}
        windows = self.plan.windows
        scores = [score_objects(image, self.phrases[list(rows)], self.clip, windows) for rows in job.phrases]
        whole = windows is not None and image.grid is None
        return {"image": job.image, "whole": whole, "scores": [s.tolist() for s in scores]}


Engine = Callable[[Scorer, Sequence[Batch]], Iterator[list[dict]]]
"""Runs batches and yields their records in order."""


def local(scorer: Scorer, batches: Sequence[Batch]) -> Iterator[list[dict]]:
    """The engine for one machine: this process."""
    return scorer.run(batches)


def score(
    scored: Sequence[Scored],
    refused: dict[str, str],
    clip: Clip,
    plan: Plan,
    *,
    scratch: Path,
    engine: Engine = local,
    bad_images: BadImages = "skip",
) -> None:
    """Scores the units of all captions and writes the scores into `scored`.

    Args:
      scored: captions with units, from `extract`.
      refused: image name → why it cannot be used; its captions are dropped for that reason.
      clip: the scoring model.
      plan: window geometry, image folder and batch sizes.
      scratch: folder of the batches that earlier runs finished.
      engine: runs the batches; `local` runs them in this process.
      bad_images: `skip` drops the captions of an image that cannot be decoded; `raise` ends with its error.

    Raises:
      UserError: an image cannot be decoded, with `raise`.
    """
    of_image: dict[str, list[Scored]] = {}
    for entry in scored:
        entry.dropped = entry.dropped or refused.get(entry.caption.image, "")
        if not entry.dropped:
            of_image.setdefault(entry.caption.image, []).append(entry)
    phrases = phrases_of(entry.units for entries in of_image.values() for entry in entries)
    row = {phrase: i for i, phrase in enumerate(phrases)}
    features = _phrase_features(phrases, clip, scratch)
    names, size = list(of_image), plan.work.image_batch
    journal = Journal(scratch / "scores.jsonl")
    done = min(len(names), len(journal) * size)
    jobs = (
        Job(name, tuple(tuple(row[unit.object] for unit in entry.units) for entry in of_image[name]))
        for name in names[done:]
    )
    batches = [list(islice(jobs, size)) for _ in range(done, len(names), size)]
    with bar(len(names), "scores", done=done, unit="image") as progress:

        def fresh() -> Iterator[list[dict]]:
            for records in engine(Scorer(clip, plan, features), batches):
                journal.append(records)
                progress.update(len(records))
                yield records

        for records in chain(journal, fresh() if batches else ()):
            if bad_images == "raise":
                _refuse_bad(records, plan.images)
            _apply(records, of_image)


def _phrase_features(phrases: list[str], clip: Clip, scratch: Path) -> np.ndarray:
    """Text features float32[phrases, D]; each finished batch is kept in a file of its own in `scratch`."""
    parts = []
    with bar(len(phrases), "phrases", unit="phrase") as progress:
        for start in range(0, len(phrases), _PHRASE_BATCH):
            batch, path = phrases[start : start + _PHRASE_BATCH], scratch / "phrases" / f"{start:08d}.npz"
            if (features := _kept_features(path, batch)) is None:
                features = clip.encode_phrases(batch)
                write_arrays(path, {"phrases": np.array(batch, np.str_), "features": features})
            parts.append(features)
            progress.update(len(batch))
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def _kept_features(path: Path, phrases: list[str]) -> np.ndarray | None:
    """Features of these phrases; None where they are not there or not sound, so that they are made again."""
    if not path.exists():
        return None
    try:
        kept = read_arrays(path, most=len(phrases))
        features = kept.get("features", np.zeros(0))
        if kept.get("phrases", np.zeros(0)).tolist() != phrases or features.dtype != np.float32:
            raise UserError(f"{path}: holds no features of these phrases")
        if features.ndim != 2 or len(features) != len(phrases):
            raise UserError(f"{path}: holds features of the shape {features.shape}")
    except UserError as error:
        logging.warning("%s; made again", error)
        return None
    return features


def _refuse_bad(records: Sequence[dict], images: Path) -> None:
    for record in records:
        if "dropped" in record:
            raise UserError(f"{images}/{record['detail']}")


def _apply(records: Sequence[dict], of_image: dict[str, list[Scored]]) -> None:
    """Copies scores from images' records to captions; drops a caption whose number of scores does not fit."""
    for record in records:
        for index, entry in enumerate(of_image[record["image"]]):
            if "dropped" in record:
                entry.dropped, entry.detail = record["dropped"], record["detail"]
            elif len(record["scores"][index]) != len(entry.units):
                entry.dropped = "mismatch"
            else:
                entry.scores = np.array(record["scores"][index], np.float32)
                entry.whole_image = record["whole"]
