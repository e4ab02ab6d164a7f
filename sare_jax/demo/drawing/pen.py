"""A pen that draws in the unit square of an object's box."""

from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

PALETTE: dict[str, Colour] = {
    "red": (206, 58, 50),
    "blue": (58, 104, 190),
    "green": (72, 148, 82),
    "yellow": (236, 194, 62),
    "purple": (134, 84, 164),
    "pink": (228, 130, 160),
    "white": (238, 236, 230),
    "black": (50, 48, 54),
    "grey": (140, 144, 150),
    "brown": (126, 82, 52),
    "tan": (204, 164, 116),
    "ginger": (218, 134, 62),
}
INK: Colour = (38, 34, 40)


def shade(colour: Colour, factor: float) -> Colour:
    """Darkens (factor < 1) or lightens towards white (factor > 1; 2 is white) a colour."""
    if factor <= 1:
        red, green, blue = (int(channel * factor) for channel in colour)
    else:
        red, green, blue = (int(channel + (255 - channel) * min(factor - 1, 1)) for channel in colour)
    return red, green, blue


def jittered(colour: Colour, change: np.ndarray) -> Colour:
    """A colour with int[3] added to its channels, cut to 0…255."""
    red, green, blue = np.clip(np.array(colour) + change, 0, 255)
    return int(red), int(green), int(blue)


class Pen:
    """Draws shapes whose coordinates are fractions of a box: x to the right, y down, both 0 to 1.

    Args:
      draw: where to draw.
      box: left, top, right, bottom in pixels of that image.
      mirrored: whether x runs from right to left.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, box: Box, *, mirrored: bool = False):
        self._draw = draw
        self._left, self._top, right, bottom = box
        self.width, self.height = right - self._left, bottom - self._top
        self._mirrored = mirrored

    def _at(self, x: float, y: float) -> tuple[float, float]:
        x = 1 - x if self._mirrored else x
        return self._left + x * self.width, self._top + y * self.height

    def _corners(self, box: Box) -> tuple[float, float, float, float]:
        (x0, y0), (x1, y1) = self._at(*box[:2]), self._at(*box[2:])
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def _stroke(self, width: float) -> int:
        return max(1, round(width * min(self.width, self.height)))

    def polygon(self, points: Sequence[tuple[float, float]], fill: Colour) -> None:
        """Filled polygon."""
        self._draw.polygon([self._at(*point) for point in points], fill=fill)

    def line(self, points: Sequence[tuple[float, float]], fill: Colour, width: float) -> None:
        """Line through points; its width is a fraction of the box's shorter side."""
        self._draw.line(
            [self._at(*point) for point in points], fill=fill, width=self._stroke(width), joint="curve"
        )

    def oval(self, box: Box, fill: Colour) -> None:
        """Filled ellipse."""
        self._draw.ellipse(self._corners(box), fill=fill)

    def ring(self, box: Box, fill: Colour, width: float) -> None:
        """Outline of an ellipse."""
        self._draw.ellipse(self._corners(box), outline=fill, width=self._stroke(width))

    def rect(self, box: Box, fill: Colour, round_by: float = 0.0) -> None:
        """Filled rectangle; `round_by` is the corner radius as a fraction of the box's shorter side."""
        radius = round_by * min(self.width, self.height)
        self._draw.rounded_rectangle(self._corners(box), radius=radius, fill=fill)

    def dome(self, box: Box, fill: Colour) -> None:
        """Upper half of the ellipse in `box`."""
        self._draw.pieslice(self._corners(box), 180, 360, fill=fill)

    def basin(self, box: Box, fill: Colour) -> None:
        """Lower half of the ellipse in `box`."""
        self._draw.pieslice(self._corners(box), 0, 180, fill=fill)
