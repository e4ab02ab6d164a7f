"""From units and images to scores, batch by batch, with every finished batch kept on the disk."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sare_jax import files
from sare_jax.curation.clip import Clip
from sare_jax.curation.extraction import Scored
from sare_jax.curation.journal import Journal
from sare_jax.curation.scoring import ImageFeatures, encode_views, prefetched, score_objects
from sare_jax.curation.units import phrases_of
from sare_jax.curation.windows import Windows
from sare_jax.data.images import ImageError
from sare_jax.errors import UserError
from sare_jax.progress import bar

_PHRASE_BATCH = 256

BadImages = Literal["skip", "raise"]


@dataclass(frozen=True)
class Work:
    """How the work is cut up.

    Attributes:
      image_batch: images whose windows are scored together, and the most that an interruption repeats.
      view_batch: windows that the encoder takes at once.
      workers: threads that decode and cut images; twice as many images wait in memory at the most.
    """

    image_batch: int = 16
    view_batch: int = 256
    workers: int = 2


DEFAULT_WORK = Work()


@dataclass(frozen=True)
class Scorer:
    """What scores: model, geometry (None for whole images), image folder, batch sizes."""

    clip: Clip
    windows: Windows | None
    images: Path
    work: Work

    def records(
        self, names: Sequence[str], of_image: dict[str, list[Scored]], features: dict[str, np.ndarray]
    ) -> list[dict]:
        """Scores the captions of some images; an image that cannot be decoded gives its reason instead."""
        paths = [self.images / name for name in names]
        views = prefetched(paths, self.clip, self.windows, workers=self.work.workers)
        seen = encode_views(views, self.clip, self.work.view_batch)
        return [
            self._record(name, image, of_image[name], features)
            for name, image in zip(names, seen, strict=True)
        ]

    def _record(
        self,
        name: str,
        image: ImageFeatures | ImageError,
        entries: list[Scored],
        features: dict[str, np.ndarray],
    ) -> dict:
        if isinstance(image, ImageError):
            kind = re.split(r"[,(]", image.reason)[0].strip()  # without what is this file's alone
            return {"image": name, "dropped": f"image {kind}", "detail": str(image)}
        scores = []
        for entry in entries:
            phrases = np.stack([features[unit.object] for unit in entry.units])
            values = score_objects(image, phrases, self.clip, self.windows)
            scores.append([float(value) for value in values])
        return {"image": name, "whole": self.windows is not None and image.grid is None, "scores": scores}


def score(
    scored: Sequence[Scored],
    refused: dict[str, str],
    scorer: Scorer,
    *,
    scratch: Path,
    bad_images: BadImages = "skip",
) -> None:
    """Scores the units of all captions, in place.

    Args:
      scored: from `extract`.
      refused: images that cannot be used, name → reason.
      scorer: what scores.
      scratch: folder of the kept batches.
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
    features = _phrase_features(phrases, scorer.clip, scratch)
    names, size = list(of_image), scorer.work.image_batch
    journal = Journal(scratch / "scores.jsonl")
    done = min(len(names), len(journal.batches) * size)
    with bar(len(names), "scores", done=done, unit="image") as progress:
        for start in range(0, len(names), size):
            if start >= done:
                journal.append(scorer.records(names[start : start + size], of_image, features))
                progress.update(min(size, len(names) - start))
            for record in journal.batches[start // size]:
                _apply(record, of_image[record["image"]], bad_images)


def _phrase_features(phrases: list[str], clip: Clip, scratch: Path) -> dict[str, np.ndarray]:
    """Each distinct phrase's features float32[D], encoded once, in one order whatever was done before."""
    path = scratch / "phrases.npy"
    if not path.exists():
        parts = []
        with bar(len(phrases), "phrases", unit="phrase") as progress:
            for start in range(0, len(phrases), _PHRASE_BATCH):
                parts.append(clip.encode_phrases(phrases[start : start + _PHRASE_BATCH]))
                progress.update(len(parts[-1]))
        with files.replacing(path) as draft, draft.open("wb") as stream:
            np.save(stream, np.concatenate(parts) if parts else np.zeros((0, 1), np.float32))
    return dict(zip(phrases, np.load(path, allow_pickle=False), strict=True))


def _apply(record: dict, entries: Sequence[Scored], bad_images: BadImages) -> None:
    """Hands an image's record to its captions; one whose objects and scores differ in number is dropped."""
    if "dropped" in record and bad_images == "raise":
        raise UserError(record["detail"])
    for index, entry in enumerate(entries):
        if "dropped" in record:
            entry.dropped, entry.detail = record["dropped"], record["detail"]
        elif len(record["scores"][index]) != len(entry.units):
            entry.dropped = "mismatch"
        else:
            entry.scores = np.array(record["scores"][index], np.float32)
            entry.whole_image = record["whole"]
