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
from sare_jax.data.images import MOST_PIXELS, ImageError, load_image

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
      is_first: whether this is the image's first part.
      is_last: whether this is the image's last part.
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
    paths: Iterable[Path],
    clip: Clip,
    windows: Windows | None,
    *,
    workers: int,
    max_pixels: int = MOST_PIXELS,
) -> Iterator[Part | ImageError]:
    """Decodes images and cuts them into views, in threads and ahead of their use; yields parts in order.

    An image is taken whole if `windows` is None or if it is smaller than a window. For an image that cannot
    be decoded, its error is yielded. At most 4 images and 128 views per thread are in memory at a time,
    whatever the number and size of the images.

    Args:
      paths: image files; iterated as memory becomes free.
      clip: its preprocessing is applied to each view.
      windows: size and stride of the windows; None takes whole images.
      workers: number of threads.
      max_pixels: the most that an image may have.
    """
    with ThreadPoolExecutor(workers) as pool:
        images = _ahead(pool, partial(_load, max_pixels), paths, 2 * workers)
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
      parts: from `view_parts` or `parts_of`; parts of later images are not consumed.
      count: number of images to encode.
      clip: the scoring model.
      batch_size: number of views that the encoder takes at once.

    Returns:
      Features or error of each image, in order.
    """
    views_or_error: list[tuple[int, Grid | None] | ImageError] = []

    def stacks() -> Iterator[np.ndarray]:
        left = count
        while left:
            part = next(parts)
            if isinstance(part, ImageError):
                views_or_error.append(part)
                left -= 1
                continue
            views = 0
            if not part.is_first and not isinstance(before := views_or_error.pop(), ImageError):
                views = before[0]
            views_or_error.append((views + len(part.pixels), part.grid))
            left -= part.is_last
            yield part.pixels

    features = [clip.encode_images(batch) for batch in _batches(stacks(), batch_size)]
    joined = np.concatenate(features) if features else np.zeros((0, 0), np.float32)
    position = 0
    results: list[ImageFeatures | ImageError] = []
    for entry in views_or_error:
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
    """`map` in threads, in order; takes a new item only while fewer than `limit` results are waiting."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) == limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _load(max_pixels: int, path: Path) -> Image.Image | ImageError:
    try:
        return load_image(path, max_pixels)
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
