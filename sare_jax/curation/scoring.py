"""From image files to features: images decoded once, in threads; views of many images in one batch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from sare_jax.curation.clip import Clip, alignment
from sare_jax.curation.windows import Windows, object_scores, window_boxes, window_grid
from sare_jax.data.images import ImageError, load_image

_PART = 64  # views; bounds the memory that a large picture takes, which may have thousands of windows

T = TypeVar("T")
R = TypeVar("R")

Box = tuple[int, int, int, int]
Grid = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """Some of an image's views, as the encoder sees them.

    Attributes:
      pixels: uint8[n, H, W, 3]: windows row by row, or the whole image alone.
      grid: (rows, columns) of all the image's windows; None for the whole image.
      is_first: no part of this image came before.
      is_last: none follows.
    """

    pixels: np.ndarray
    grid: Grid | None
    is_first: bool
    is_last: bool


@dataclass(frozen=True)
class ImageFeatures:
    """Features float32[n, D] of an image's views, and their grid as in `Part`."""

    features: np.ndarray
    grid: Grid | None


@dataclass(frozen=True)
class _Cut:
    """A part before it is cut; boxes None stand for the whole image."""

    image: Image.Image
    boxes: list[Box] | None
    grid: Grid | None
    is_first: bool
    is_last: bool


def view_parts(
    paths: Iterable[Path], clip: Clip, windows: Windows | None, *, workers: int
) -> Iterator[Part | ImageError]:
    """Decodes images and cuts them, in threads and ahead of their use; in order.

    An image is scored whole where `windows` is None or it is smaller than one. One that cannot be decoded
    gives its error as a value. At any time there are at most 4 images and 128 views a thread in memory,
    however many images there are and however large they are.

    Args:
      paths: read as room comes free.
      clip: whose preprocessing is applied to each view.
      windows: the geometry.
      workers: number of threads.
    """
    with ThreadPoolExecutor(workers) as pool:
        images = _ahead(pool, _load, paths, 2 * workers)
        cuts = (cut for image in images for cut in _cuts(image, windows))
        yield from _ahead(pool, partial(_part, clip), cuts, 2 * workers)


def parts_of(image: Image.Image, clip: Clip, windows: Windows | None) -> Iterator[Part | ImageError]:
    """The parts of a picture that is in memory, as `view_parts` cuts those of files."""
    return (_part(clip, cut) for cut in _cuts(image, windows))


def encode_images(
    parts: Iterator[Part | ImageError], count: int, clip: Clip, batch_size: int
) -> list[ImageFeatures | ImageError]:
    """Encodes the next `count` images in full batches that run across images.

    Args:
      parts: from `view_parts` or `parts_of`; nothing is taken of the images after these.
      count: number of images.
      clip: the model.
      batch_size: views encoded together.

    Returns:
      One entry an image, in order; errors stay where they were.
    """
    seen: list[tuple[int, Grid | None] | ImageError] = []

    def stacks() -> Iterator[np.ndarray]:
        left = count
        while left:
            part = next(parts)
            if isinstance(part, ImageError):
                seen.append(part)
                left -= 1
                continue
            views = 0
            if not part.is_first and not isinstance(before := seen.pop(), ImageError):
                views = before[0]
            seen.append((views + len(part.pixels), part.grid))
            left -= part.is_last
            yield part.pixels

    features = [clip.encode_images(batch) for batch in _batches(stacks(), batch_size)]
    joined = np.concatenate(features) if features else np.zeros((0, 0), np.float32)
    position = 0
    results: list[ImageFeatures | ImageError] = []
    for entry in seen:
        if isinstance(entry, ImageError):
            results.append(entry)
        else:
            views, grid = entry
            results.append(ImageFeatures(joined[position : position + views], grid))
            position += views
    return results


def score_objects(
    image: ImageFeatures, phrases: np.ndarray, clip: Clip, windows: Windows | None
) -> np.ndarray:
    """Scores float32[objects] of phrases with features float32[objects, D] on one image."""
    scores = alignment(image.features, phrases, clip.scale)
    return scores[0] if image.grid is None or windows is None else object_scores(scores, image.grid, windows)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], limit: int
) -> Iterator[R]:
    """`map` in threads, in order, at most `limit` results waiting; asks for items as room comes free."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) == limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _load(path: Path) -> Image.Image | ImageError:
    try:
        return load_image(path)
    except ImageError as error:
        return error


def _cuts(image: Image.Image | ImageError, windows: Windows | None) -> Iterator[_Cut | ImageError]:
    if isinstance(image, ImageError):
        yield image
        return
    boxes = window_boxes(*image.size, windows) if windows else []
    if windows is None or not boxes:
        yield _Cut(image, None, None, True, True)
        return
    grid = window_grid(*image.size, windows)
    for start in range(0, len(boxes), _PART):
        yield _Cut(image, boxes[start : start + _PART], grid, start == 0, start + _PART >= len(boxes))


def _part(clip: Clip, cut: _Cut | ImageError) -> Part | ImageError:
    if isinstance(cut, ImageError):
        return cut
    views = [cut.image] if cut.boxes is None else map(cut.image.crop, cut.boxes)
    return Part(np.stack([clip.pixels(view) for view in views]), cut.grid, cut.is_first, cut.is_last)


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
