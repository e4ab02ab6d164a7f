"""Drawings of vehicles."""

import numpy as np

from sare_jax.demo.drawing.pen import INK, Colour, Pen, shade

_GLASS: Colour = (176, 212, 232)
_TYRE: Colour = (44, 44, 48)
_RIM: Colour = (176, 178, 182)


def _wheel(pen: Pen, x: float, y: float, width: float, height: float) -> None:
    pen.oval((x - width, y - height, x + width, y + height), _TYRE)
    pen.oval((x - width / 2, y - height / 2, x + width / 2, y + height / 2), _RIM)


def car(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A car, seen from the side."""
    roof = rng.uniform(0.0, 0.06)
    pen.polygon([(0.16, 0.44), (0.3, roof), (0.66, roof), (0.82, 0.44)], shade(colour, 0.88))
    pen.polygon([(0.23, 0.42), (0.33, roof + 0.08), (0.46, roof + 0.08), (0.46, 0.42)], _GLASS)
    pen.polygon([(0.5, 0.42), (0.5, roof + 0.08), (0.64, roof + 0.08), (0.75, 0.42)], _GLASS)
    pen.rect((0.0, 0.4, 1.0, 0.82), colour, 0.16)
    pen.rect((0.0, 0.66, 1.0, 0.82), shade(colour, 0.72), 0.08)
    pen.line([(0.48, 0.42), (0.48, 0.72)], shade(colour, 0.6), 0.02)
    pen.rect((0.52, 0.5, 0.59, 0.54), shade(colour, 0.5))
    pen.oval((0.93, 0.47, 1.0, 0.6), (252, 240, 176))
    pen.rect((0.0, 0.48, 0.04, 0.6), (190, 40, 40))
    _wheel(pen, 0.23, 0.8, 0.105, 0.2)
    _wheel(pen, 0.77, 0.8, 0.105, 0.2)


def bus(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A bus with a row of windows, seen from the side."""
    pen.rect((0.0, 0.0, 1.0, 0.88), colour, 0.1)
    pen.rect((0.04, 0.0, 0.96, 0.06), shade(colour, 0.7), 0.03)
    pen.rect((0.0, 0.56, 1.0, 0.64), shade(colour, 1.75))
    count = int(rng.integers(4, 6))
    step = 0.72 / count
    for index in range(count):
        left = 0.05 + index * step
        pen.rect((left, 0.16, left + step * 0.82, 0.46), _GLASS, 0.03)
    pen.rect((0.8, 0.14, 0.97, 0.48), shade(_GLASS, 0.9), 0.03)
    pen.rect((0.66, 0.16, 0.77, 0.84), shade(_GLASS, 0.72), 0.03)
    pen.line([(0.715, 0.18), (0.715, 0.82)], shade(colour, 0.6), 0.02)
    pen.oval((0.94, 0.7, 1.0, 0.8), (252, 240, 176))
    _wheel(pen, 0.2, 0.87, 0.08, 0.13)
    _wheel(pen, 0.83, 0.87, 0.08, 0.13)


def bicycle(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A bicycle, seen from the side."""
    spin = rng.uniform(0, np.pi / 3)
    for x in (0.21, 0.79):
        pen.ring((x - 0.21, 0.36, x + 0.21, 1.0), _TYRE, 0.075)
        for angle in spin + np.arange(3) * np.pi / 3:
            dx, dy = 0.18 * np.cos(angle), 0.28 * np.sin(angle)
            pen.line([(x - dx, 0.68 - dy), (x + dx, 0.68 + dy)], (170, 172, 176), 0.015)
    pen.line([(0.21, 0.68), (0.38, 0.26), (0.69, 0.26), (0.47, 0.7), (0.21, 0.68)], colour, 0.08)
    pen.line([(0.47, 0.7), (0.35, 0.14)], colour, 0.08)
    pen.line([(0.79, 0.68), (0.67, 0.1)], colour, 0.08)
    pen.rect((0.25, 0.08, 0.45, 0.16), INK, 0.05)
    pen.line([(0.76, 0.16), (0.67, 0.06), (0.58, 0.06)], INK, 0.06)
    pen.oval((0.42, 0.62, 0.52, 0.78), INK)


def boat(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A sailing boat."""
    lean = rng.uniform(-0.03, 0.03)
    pen.line([(0.5, 0.74), (0.5 + lean, 0.0)], (110, 82, 60), 0.045)
    pen.polygon([(0.54, 0.05), (0.54, 0.66), (0.94, 0.66)], (246, 242, 230))
    pen.polygon([(0.54, 0.4), (0.54, 0.5), (0.82, 0.5), (0.76, 0.4)], colour)
    pen.polygon([(0.46, 0.16), (0.46, 0.66), (0.12, 0.66)], (230, 224, 208))
    pen.polygon([(0.5, 0.0), (0.5, 0.1), (0.64, 0.05)], (220, 60, 54))
    pen.polygon([(0.0, 0.72), (1.0, 0.72), (0.82, 0.98), (0.16, 0.98)], colour)
    pen.polygon([(0.0, 0.72), (1.0, 0.72), (0.97, 0.78), (0.04, 0.78)], shade(colour, 1.6))
