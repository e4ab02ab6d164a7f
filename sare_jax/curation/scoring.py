"""CLIP scores of many captions' objects: images decoded once, windows of many images in one batch."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sare_jax.curation.clip import Clip, alignment
from sare_jax.curation.windows import Windows, object_scores, window_boxes, window_grid
from sare_jax.data.images import ImageError, load_image


@dataclass(frozen=True)
class Views:
    """What the encoder sees of one image.

    Attributes:
      pixels: uint8[n, H, W, 3]: the windows row by row, or the whole image alone.
      grid: (rows, columns) of the windows; None for the whole image.
    """

    pixels: np.ndarray
    grid: tuple[int, int] | None


@dataclass(frozen=True)
class ImageFeatures:
    """Features float32[n, D] of an image's views, and their grid as in `Views`."""

    features: np.ndarray
    grid: tuple[int, int] | None


def views_of(image: Image.Image, clip: Clip, windows: Windows | None) -> Views:
    """Cuts an image into windows; the whole image where there are none or it is smaller than one."""
    boxes = window_boxes(*image.size, windows) if windows else []
    if not boxes:
        return Views(clip.pixels(image)[None], None)
    pixels = np.stack([clip.pixels(image.crop(box)) for box in boxes])
    return Views(pixels, window_grid(*image.size, windows))


def load_views(path: Path, clip: Clip, windows: Windows | None) -> Views | ImageError:
    """Decodes an image and cuts it; an image that cannot be decoded gives the error as a value."""
    try:
        return views_of(load_image(path), clip, windows)
    except ImageError as error:
        return error


def prefetched(
    paths: Sequence[Path], clip: Clip, windows: Windows | None, *, workers: int
) -> Iterator[Views | ImageError]:
    """Decodes and cuts images in threads, in order; at most two a thread wait, so memory is bounded."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future] = deque()
        for path in paths:
            waiting.append(pool.submit(load_views, path, clip, windows))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def encode_views(
    views: Iterable[Views | ImageError], clip: Clip, batch_size: int
) -> list[ImageFeatures | ImageError]:
    """Encodes the views of many images in full batches that run across images.

    Args:
      views: one entry an image; they are asked for as room comes free.
      clip: the model.
      batch_size: views encoded together.

    Returns:
      One entry an image, in order; errors stay where they were.
    """
    seen: list[tuple[int, tuple[int, int] | None] | ImageError] = []

    def stacks() -> Iterator[np.ndarray]:
        for entry in views:
            if isinstance(entry, ImageError):
                seen.append(entry)
            else:
                seen.append((len(entry.pixels), entry.grid))
                yield entry.pixels

    features = [clip.encode_images(batch) for batch in _batches(stacks(), batch_size)]
    joined, position, results = np.concatenate(features) if features else None, 0, []
    for entry in seen:
        if isinstance(entry, ImageError):
            results.append(entry)
        else:
            count, grid = entry
            results.append(ImageFeatures(joined[position : position + count], grid))
            position += count
    return results


def score_objects(
    image: ImageFeatures, phrases: np.ndarray, clip: Clip, windows: Windows | None
) -> np.ndarray:
    """Scores float32[objects] of phrases with features float32[objects, D] on one image."""
    scores = alignment(image.features, phrases, clip.scale)
    return scores[0] if image.grid is None else object_scores(scores, image.grid, windows)


def _batches(stacks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Cuts a stream of stacks into batches of `size`; the last may be smaller."""
    waiting: list[np.ndarray] = []
    count = 0
    for stack in stacks:
        waiting.append(stack)
        count += len(stack)
        while count >= size:
            joined = np.concatenate(waiting)
            yield joined[:size]
            waiting, count = [joined[size:]], count - size
    if count:
        yield np.concatenate(waiting)
