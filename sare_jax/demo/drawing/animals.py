"""Drawings of animals and people."""

import numpy as np

from sare_jax.demo.drawing.pen import INK, Colour, Pen, shade

_SKINS = ((246, 210, 178), (222, 172, 130), (164, 112, 78), (112, 74, 54))
_TROUSERS = ((58, 66, 98), (86, 74, 64), (44, 44, 50), (96, 112, 96))


def person(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A standing person in a shirt of the main colour."""
    skin = _SKINS[rng.integers(len(_SKINS))]
    trousers = _TROUSERS[rng.integers(len(_TROUSERS))]
    lift = rng.uniform(-0.06, 0.1)
    pen.polygon([(0.3, 0.55), (0.48, 0.55), (0.46, 0.97), (0.26, 0.97)], trousers)
    pen.polygon([(0.52, 0.55), (0.7, 0.55), (0.74, 0.97), (0.54, 0.97)], trousers)
    pen.rect((0.18, 0.95, 0.47, 1.0), INK, 0.06)
    pen.rect((0.53, 0.95, 0.82, 1.0), INK, 0.06)
    pen.line([(0.27, 0.28), (0.1, 0.44), (0.06, 0.57 - lift)], shade(colour, 0.8), 0.15)
    pen.line([(0.73, 0.28), (0.9, 0.44), (0.94, 0.57 + lift)], shade(colour, 0.8), 0.15)
    pen.oval((0.0, 0.54 - lift, 0.16, 0.61 - lift), skin)
    pen.oval((0.84, 0.54 + lift, 1.0, 0.61 + lift), skin)
    pen.rect((0.22, 0.23, 0.78, 0.6), colour, 0.2)
    pen.rect((0.42, 0.18, 0.58, 0.27), shade(skin, 0.88))
    pen.oval((0.27, 0.0, 0.73, 0.21), skin)
    pen.dome((0.25, -0.02, 0.75, 0.17), shade((92, 62, 40), rng.uniform(0.4, 1.3)))
    pen.oval((0.38, 0.1, 0.45, 0.13), INK)
    pen.oval((0.55, 0.1, 0.62, 0.13), INK)


def cat(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A sitting cat, seen from the front."""
    dark, pale = shade(colour, 0.72), shade(colour, 1.55)
    tip = rng.uniform(0.3, 0.5)
    pen.line([(0.72, 0.93), (0.94, 0.84), (0.93, 0.62), (0.99, tip)], dark, 0.12)
    pen.oval((0.16, 0.42, 0.84, 1.04), colour)
    pen.oval((0.33, 0.52, 0.67, 0.98), pale)
    pen.oval((0.22, 0.87, 0.46, 1.0), pale)
    pen.oval((0.54, 0.87, 0.78, 1.0), pale)
    for left, peak, right in ((0.18, 0.18, 0.42), (0.82, 0.82, 0.58)):
        pen.polygon([(left, 0.3), (peak, 0.0), (right, 0.14)], colour)
        pen.polygon([(left + (right - left) * 0.2, 0.22), (peak + (right - left) * 0.14, 0.07),
                     (right - (right - left) * 0.2, 0.16)], (226, 150, 150))  # fmt: skip
    pen.oval((0.17, 0.09, 0.83, 0.54), colour)
    for stripe in (0.42, 0.5, 0.58):
        pen.line([(stripe, 0.1), (stripe, 0.19)], dark, 0.04)
    for x in (0.31, 0.57):
        pen.oval((x, 0.25, x + 0.13, 0.36), (160, 206, 92))
        pen.oval((x + 0.045, 0.25, x + 0.085, 0.36), INK)
    pen.polygon([(0.46, 0.38), (0.54, 0.38), (0.5, 0.43)], (220, 110, 120))
    for side in (-1, 1):
        pen.line([(0.5 + side * 0.14, 0.42), (0.5 + side * 0.46, 0.39)], shade(dark, 1.6), 0.02)
        pen.line([(0.5 + side * 0.14, 0.45), (0.5 + side * 0.44, 0.48)], shade(dark, 1.6), 0.02)


def dog(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A dog with a hanging ear and a collar, seen from the side."""
    dark = shade(colour, 0.62)
    wag = rng.uniform(0.08, 0.26)
    pen.line([(0.14, 0.5), (0.05, 0.34), (0.02, wag)], colour, 0.1)
    for x in (0.2, 0.62):
        pen.rect((x + 0.06, 0.62, x + 0.16, 0.98), dark, 0.04)
    for x in (0.13, 0.56):
        pen.rect((x, 0.62, x + 0.11, 1.0), colour, 0.04)
        pen.rect((x, 0.94, x + 0.14, 1.0), shade(colour, 1.3), 0.03)
    pen.rect((0.08, 0.4, 0.74, 0.75), colour, 0.18)
    pen.oval((0.2, 0.58, 0.6, 0.8), shade(colour, 1.3))
    pen.polygon([(0.54, 0.46), (0.66, 0.16), (0.82, 0.34), (0.74, 0.62)], colour)
    pen.oval((0.58, 0.06, 0.9, 0.42), colour)
    pen.rect((0.76, 0.2, 1.0, 0.4), shade(colour, 1.3), 0.1)
    pen.oval((0.93, 0.18, 1.01, 0.28), INK)
    pen.oval((0.75, 0.14, 0.81, 0.21), INK)
    pen.oval((0.56, 0.08, 0.7, 0.46), dark)
    pen.line([(0.57, 0.5), (0.75, 0.5)], (214, 60, 60), 0.07)


def cow(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A spotted cow, seen from the side."""
    spot = INK if sum(colour) > 500 else shade(colour, 1.75)
    pen.line([(0.06, 0.32), (0.01, 0.5), (0.03, 0.66)], shade(colour, 0.7), 0.04)
    for x in (0.19, 0.62):
        pen.rect((x, 0.6, x + 0.08, 0.97), shade(colour, 0.78))
    for x in (0.09, 0.54):
        pen.rect((x, 0.6, x + 0.09, 0.94), colour)
        pen.rect((x, 0.93, x + 0.09, 1.0), INK)
    pen.oval((0.3, 0.62, 0.5, 0.82), (236, 160, 164))
    pen.rect((0.05, 0.24, 0.72, 0.7), colour, 0.2)
    for x, y, size in ((0.14, 0.3, 0.2), (0.4, 0.26, 0.22), (0.28, 0.5, 0.14), (0.54, 0.48, 0.14)):
        x, y = x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.03, 0.03)
        pen.oval((x, y, x + size, y + size), spot)
    pen.polygon([(0.6, 0.28), (0.76, 0.16), (0.84, 0.4), (0.68, 0.56)], colour)
    pen.line([(0.74, 0.16), (0.72, 0.02)], (232, 222, 190), 0.05)
    pen.line([(0.86, 0.16), (0.9, 0.02)], (232, 222, 190), 0.05)
    pen.oval((0.64, 0.15, 0.76, 0.25), spot)
    pen.rect((0.7, 0.12, 0.92, 0.52), colour, 0.12)
    pen.rect((0.72, 0.38, 0.97, 0.56), (236, 176, 176), 0.1)
    pen.oval((0.82, 0.2, 0.87, 0.28), INK)
    pen.oval((0.89, 0.43, 0.93, 0.49), shade((236, 176, 176), 0.5))


def bird(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A bird in flight."""
    flap = rng.uniform(-0.08, 0.12)
    pen.polygon([(0.0, 0.5), (0.22, 0.56), (0.3, 0.7), (0.02, 0.72)], shade(colour, 0.75))
    pen.polygon([(0.36, 0.56), (0.3, 0.02 + flap), (0.56, 0.24), (0.66, 0.58)], shade(colour, 0.75))
    pen.oval((0.16, 0.44, 0.78, 0.86), colour)
    pen.oval((0.3, 0.62, 0.7, 0.88), shade(colour, 1.6))
    pen.polygon([(0.28, 0.58), (0.12, 0.12 + flap), (0.44, 0.26), (0.58, 0.62)], shade(colour, 0.88))
    pen.oval((0.62, 0.34, 0.9, 0.72), colour)
    pen.polygon([(0.87, 0.46), (1.02, 0.55), (0.87, 0.62)], (240, 160, 40))
    pen.oval((0.75, 0.44, 0.82, 0.54), (250, 250, 250))
    pen.oval((0.77, 0.46, 0.82, 0.54), INK)
