"""Drawings of tableware and food."""

import numpy as np

from sare_jax.demo.drawing.pen import Colour, Pen, shade


def bottle(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A bottle with a label."""
    pen.rect((0.34, 0.04, 0.66, 0.36), shade(colour, 0.86))
    pen.polygon([(0.34, 0.26), (0.66, 0.26), (0.96, 0.46), (0.04, 0.46)], shade(colour, 0.94))
    pen.rect((0.02, 0.42, 0.98, 1.0), colour, 0.2)
    label = rng.uniform(0.52, 0.6)
    pen.rect((0.02, label, 0.98, label + 0.24), (246, 240, 222))
    pen.rect((0.2, label + 0.08, 0.8, label + 0.13), shade(colour, 0.7))
    pen.rect((0.12, 0.44, 0.26, label), shade(colour, 1.5))
    pen.rect((0.28, 0.0, 0.72, 0.09), (200, 168, 80), 0.1)


def cup(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A cup with a handle and a dark drink in it."""
    pen.ring((0.6, 0.26, 1.0, 0.8), shade(colour, 0.8), 0.12)
    pen.polygon([(0.0, 0.12), (0.78, 0.12), (0.7, 0.92), (0.08, 0.92)], colour)
    pen.oval((0.08, 0.82, 0.7, 1.0), colour)
    band = rng.uniform(0.42, 0.56)
    pen.polygon([(0.035, band), (0.743, band), (0.73, band + 0.13), (0.05, band + 0.13)], shade(colour, 0.68))
    pen.polygon([(0.08, 0.2), (0.18, 0.2), (0.22, 0.88), (0.14, 0.88)], shade(colour, 1.5))
    pen.oval((0.0, 0.0, 0.78, 0.24), shade(colour, 1.35))
    pen.oval((0.07, 0.05, 0.71, 0.21), (96, 62, 42))


def bowl(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A wide bowl on a foot."""
    pen.rect((0.34, 0.86, 0.66, 1.0), shade(colour, 0.62))
    pen.basin((0.0, -0.5, 1.0, 0.94), colour)
    pen.basin((0.5, -0.5, 1.0, 0.94), shade(colour, 0.85))
    pen.basin((0.2, -0.5, 0.8, 0.94), colour)
    pen.oval((0.0, 0.02, 1.0, 0.42), shade(colour, 1.4))
    pen.oval((0.07, 0.08, 0.93, 0.37), shade(colour, 0.55))
    for x in np.linspace(0.16, 0.84, 5):
        pen.oval((x - 0.03, 0.5, x + 0.03, 0.6), shade(colour, 1.75))


def apple(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A round apple with stem and leaf."""
    pen.oval((0.0, 0.18, 0.64, 1.0), colour)
    pen.oval((0.36, 0.18, 1.0, 1.0), shade(colour, 0.86))
    pen.oval((0.14, 0.3, 0.86, 1.0), colour)
    pen.oval((0.14, 0.3, 0.34, 0.56), shade(colour, 1.55))
    pen.line([(0.5, 0.3), (0.54, 0.02)], (94, 64, 42), 0.09)
    pen.polygon([(0.54, 0.18), (0.7, 0.02), (0.92, 0.06), (0.78, 0.22)], (92, 156, 74))


def banana(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A curved banana."""
    turn = np.linspace(0.06, 0.94, 9) * np.pi
    outer = [(0.5 - 0.5 * np.cos(a), 0.14 + 0.84 * np.sin(a)) for a in turn]
    inner = [(0.5 - 0.47 * np.cos(a), 0.1 + 0.4 * np.sin(a)) for a in turn[::-1]]
    pen.polygon(outer + inner, colour)
    middle = [(0.5 - 0.49 * np.cos(a), 0.12 + 0.64 * np.sin(a)) for a in turn]
    pen.line(middle, shade(colour, 0.8), 0.05)
    pen.polygon([(0.0, 0.3), (0.02, 0.06), (0.1, 0.06), (0.1, 0.26)], (122, 96, 50))
    pen.polygon([(0.92, 0.16), (1.0, 0.2), (0.99, 0.34), (0.93, 0.3)], (92, 72, 44))
