"""Drawings of things found outside."""

import numpy as np

from sare_jax.demo.drawing.pen import INK, Colour, Pen, shade

_METAL: Colour = (84, 86, 92)


def bench(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A slatted bench, seen from the front."""
    dark = shade(colour, 0.7)
    for x in (0.12, 0.82):
        pen.rect((x, 0.05, x + 0.06, 0.98), _METAL)
        pen.polygon([(x - 0.03, 1.0), (x, 0.6), (x + 0.06, 0.6), (x + 0.09, 1.0)], _METAL)
    for y in (0.04, 0.2, 0.36):
        pen.rect((0.02, y, 0.98, y + 0.11), colour, 0.04)
        pen.rect((0.02, y + 0.08, 0.98, y + 0.11), dark)
    pen.polygon([(0.04, 0.54), (0.96, 0.54), (1.0, 0.66), (0.0, 0.66)], shade(colour, 1.2))
    pen.rect((0.0, 0.66, 1.0, 0.74), dark, 0.03)
    for x in (0.03, 0.91):
        pen.line([(x, 0.66), (x, 0.46), (x + 0.06, 0.42)], _METAL, 0.07)


def umbrella(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """An open umbrella on its pole, in stripes."""
    pen.line([(0.5, 0.1), (0.5, 0.98)], (120, 96, 74), 0.06)
    pen.line([(0.5, 0.92), (0.5, 1.0), (0.58, 1.0), (0.59, 0.94)], (120, 96, 74), 0.06)
    pale = shade(colour, 1.72)
    for half, fill in ((0.5, colour), (0.3, pale), (0.1, colour)):
        pen.dome((0.5 - half, 0.04, 0.5 + half, 0.98), fill)
    for index in range(5):
        left = index * 0.2
        pen.dome((left, 0.44, left + 0.2, 0.6), shade(colour, 0.6))
    pen.line([(0.5, 0.0), (0.5, 0.06)], INK, 0.04)


def kite(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A four-coloured kite with a tail."""
    pale = shade(colour, 1.6)
    top, left, right, foot = (0.5, 0.0), (0.02, 0.26), (0.98, 0.26), (0.5, 0.66)
    middle = (0.5, 0.26)
    pen.polygon([top, left, middle], colour)
    pen.polygon([top, right, middle], pale)
    pen.polygon([foot, left, middle], pale)
    pen.polygon([foot, right, middle], colour)
    pen.line([top, foot], shade(colour, 0.5), 0.04)
    pen.line([left, right], shade(colour, 0.5), 0.04)
    sway = rng.uniform(-0.14, 0.14)
    tail = [foot, (0.42 + sway, 0.76), (0.6 + sway, 0.86), (0.5 + sway, 1.0)]
    pen.line(tail, shade(colour, 0.5), 0.04)
    for x, y in tail[1:]:
        pen.polygon([(x - 0.13, y - 0.04), (x, y), (x - 0.13, y + 0.04)], (240, 200, 70))
        pen.polygon([(x + 0.13, y - 0.04), (x, y), (x + 0.13, y + 0.04)], (240, 200, 70))


def surfboard(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A surfboard stuck upright in the sand."""
    pen.oval((0.02, 0.0, 0.98, 1.1), shade(colour, 0.7))
    pen.oval((0.08, 0.02, 0.92, 1.08), colour)
    band = rng.uniform(0.26, 0.36)
    pen.rect((0.1, band, 0.9, band + 0.06), shade(colour, 1.8))
    pen.rect((0.06, band + 0.1, 0.94, band + 0.14), shade(colour, 0.5))
    pen.line([(0.5, 0.06), (0.5, 0.96)], shade(colour, 0.5), 0.08)
    pen.polygon([(-0.15, 1.0), (0.2, 0.93), (0.5, 0.96), (0.8, 0.92), (1.15, 1.0)], (222, 196, 142))
