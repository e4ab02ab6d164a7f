"""Divides images into patches and windows over them, and scores objects from the windows' scores.

As in protocols 1.3: an image is cut into 48-pixel patches; a window of 4×4 patches slides by one patch. A
patch's score is the mean over the windows that cover it, an object's the mean of its 4 best patches.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Windows:
    """Sizes of patches and windows, and how many patches make a score.

    Attributes:
      patch: side of a square patch, in pixels of the image as stored.
      window: side of a square window, in patches.
      top_patches: number of best patches whose mean is the object's score.
    """

    patch: int = 48
    window: int = 4
    top_patches: int = 4


PAPER_WINDOWS = Windows()


def window_grid(width: int, height: int, windows: Windows) -> tuple[int, int]:
    """Number of window positions (rows, columns); (0, 0) where the image is smaller than a window."""
    rows = -(-height // windows.patch) - windows.window + 1
    columns = -(-width // windows.patch) - windows.window + 1
    return (rows, columns) if min(rows, columns) > 0 else (0, 0)


def window_boxes(width: int, height: int, windows: Windows) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) in pixels, row by row; those at the far edges end with the image."""
    rows, columns = window_grid(width, height, windows)
    side, step = windows.patch * windows.window, windows.patch
    return [
        (x * step, y * step, min(x * step + side, width), min(y * step + side, height))
        for y in range(rows)
        for x in range(columns)
    ]


def object_scores(window_scores: np.ndarray, grid: tuple[int, int], windows: Windows) -> np.ndarray:
    """Scores of objects from the scores of the windows.

    Args:
      window_scores: float32[rows·columns, objects], in the order of `window_boxes`.
      grid: (rows, columns) of `window_grid`.
      windows: sizes of patches and windows, and number of best patches.

    Returns:
      float32[objects]: mean of the best `top_patches` patches, or of all where there are fewer. A patch is
      worth the mean of the windows that cover it.
    """
    rows, columns = grid
    scores = window_scores.reshape(rows, columns, -1).astype(np.float64)
    shape = (rows + windows.window - 1, columns + windows.window - 1)
    total, count = np.zeros((*shape, scores.shape[-1])), np.zeros((*shape, 1))
    for dy in range(windows.window):
        for dx in range(windows.window):
            total[dy : dy + rows, dx : dx + columns] += scores
            count[dy : dy + rows, dx : dx + columns] += 1
    patches = np.sort((total / count).reshape(-1, scores.shape[-1]), axis=0)
    return patches[-windows.top_patches :].mean(axis=0).astype(np.float32)
