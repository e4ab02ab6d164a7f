"""Drawings of furniture and things found inside."""

import numpy as np

from sare_jax.demo.drawing.pen import INK, Colour, Pen, shade

_FLOWERS = ((226, 92, 112), (244, 206, 84), (170, 110, 200), (240, 240, 236))


def couch(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A couch with two cushions."""
    dark, pale = shade(colour, 0.72), shade(colour, 1.22)
    for x in (0.06, 0.88):
        pen.rect((x, 0.88, x + 0.06, 1.0), (92, 66, 46))
    pen.rect((0.06, 0.0, 0.94, 0.7), dark, 0.16)
    pen.rect((0.14, 0.08, 0.49, 0.6), colour, 0.1)
    pen.rect((0.51, 0.08, 0.86, 0.6), colour, 0.1)
    pen.rect((0.1, 0.54, 0.5, 0.76), pale, 0.08)
    pen.rect((0.5, 0.54, 0.9, 0.76), pale, 0.08)
    pen.rect((0.04, 0.72, 0.96, 0.92), colour, 0.06)
    pen.rect((0.0, 0.36, 0.15, 0.92), shade(colour, 0.86), 0.12)
    pen.rect((0.85, 0.36, 1.0, 0.92), shade(colour, 0.86), 0.12)


def laptop(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """An open laptop with a lit screen."""
    glow = ((86, 148, 214), (64, 108, 166), (104, 176, 190))[rng.integers(3)]
    pen.rect((0.12, 0.0, 0.88, 0.68), shade(colour, 0.7), 0.06)
    pen.rect((0.17, 0.05, 0.83, 0.62), glow)
    pen.rect((0.24, 0.14, 0.52, 0.4), shade(glow, 1.6))
    for y in (0.16, 0.26, 0.36):
        pen.rect((0.57, y, 0.77, y + 0.04), shade(glow, 1.8))
    pen.polygon([(0.12, 0.68), (0.88, 0.68), (1.0, 0.95), (0.0, 0.95)], colour)
    pen.polygon([(0.17, 0.72), (0.83, 0.72), (0.88, 0.83), (0.12, 0.83)], shade(colour, 0.4))
    pen.polygon([(0.4, 0.86), (0.6, 0.86), (0.61, 0.93), (0.39, 0.93)], shade(colour, 0.75))
    pen.rect((0.0, 0.94, 1.0, 1.0), shade(colour, 0.55), 0.03)


def refrigerator(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A tall refrigerator with two doors."""
    split = rng.uniform(0.3, 0.38)
    pen.rect((0.0, 0.0, 1.0, 0.98), shade(colour, 0.62), 0.12)
    pen.rect((0.04, 0.02, 0.94, split - 0.01), colour, 0.1)
    pen.rect((0.04, split + 0.01, 0.94, 0.95), colour, 0.1)
    pen.rect((0.12, split - 0.14, 0.2, split - 0.04), shade(colour, 0.45), 0.03)
    pen.rect((0.12, split + 0.05, 0.2, split + 0.24), shade(colour, 0.45), 0.03)
    pen.rect((0.82, 0.05, 0.88, 0.9), shade(colour, 1.5))
    pen.rect((0.5, split + 0.08, 0.64, split + 0.15), (240, 214, 90))
    pen.rect((0.08, 0.96, 0.24, 1.0), INK)
    pen.rect((0.76, 0.96, 0.92, 1.0), INK)


def book(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """An open book."""
    page = (248, 244, 230)
    pen.polygon([(0.0, 0.28), (0.5, 0.4), (1.0, 0.28), (1.0, 0.92), (0.5, 1.0), (0.0, 0.92)], colour)
    pen.polygon([(0.05, 0.1), (0.26, 0.02), (0.5, 0.16), (0.5, 0.9), (0.26, 0.76), (0.05, 0.82)], page)
    pen.polygon(
        [(0.95, 0.1), (0.74, 0.02), (0.5, 0.16), (0.5, 0.9), (0.74, 0.76), (0.95, 0.82)], shade(page, 0.9)
    )
    for y in (0.2, 0.34, 0.48, 0.62):
        pen.line([(0.11, y + 0.04), (0.27, y), (0.43, y + 0.1)], (150, 150, 160), 0.05)
        pen.line([(0.57, y + 0.1), (0.73, y), (0.89, y + 0.04)], (150, 150, 160), 0.05)
    pen.line([(0.5, 0.16), (0.5, 0.94)], shade(colour, 0.6), 0.06)
    if rng.random() < 0.5:
        pen.polygon([(0.6, 0.1), (0.68, 0.05), (0.68, 0.5), (0.64, 0.42), (0.6, 0.52)], (206, 58, 50))


def clock(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A round clock with hands."""
    pen.oval((0.0, 0.0, 1.0, 1.0), colour)
    pen.oval((0.11, 0.11, 0.89, 0.89), (250, 248, 240))
    for angle in np.arange(12) * np.pi / 6:
        x, y = np.sin(angle), np.cos(angle)
        pen.line([(0.5 + 0.29 * x, 0.5 + 0.29 * y), (0.5 + 0.36 * x, 0.5 + 0.36 * y)], INK, 0.035)
    for length, width in ((0.18, 0.07), (0.29, 0.05)):
        angle = rng.uniform(0, 2 * np.pi)
        pen.line([(0.5, 0.5), (0.5 + length * np.sin(angle), 0.5 - length * np.cos(angle))], INK, width)
    pen.oval((0.45, 0.45, 0.55, 0.55), (206, 58, 50))


def vase(pen: Pen, colour: Colour, rng: np.random.Generator) -> None:
    """A vase with three flowers."""
    flower = _FLOWERS[rng.integers(len(_FLOWERS))]
    for x, y in ((0.16, 0.2), (0.5, 0.1), (0.84, 0.2)):
        x += rng.uniform(-0.05, 0.05)
        pen.line([(0.5, 0.52), (x, y)], (70, 130, 70), 0.05)
        for dx, dy in ((-0.11, 0), (0.11, 0), (0, -0.065), (0, 0.065)):
            pen.oval((x + dx - 0.1, y + dy - 0.06, x + dx + 0.1, y + dy + 0.06), flower)
        pen.oval((x - 0.07, y - 0.042, x + 0.07, y + 0.042), (236, 178, 60))
    outline = [(0.34, 0.44), (0.66, 0.44), (0.6, 0.54), (0.84, 0.7), (0.84, 0.82), (0.66, 1.0),
               (0.34, 1.0), (0.16, 0.82), (0.16, 0.7), (0.4, 0.54)]  # fmt: skip
    pen.polygon(outline, colour)
    pen.polygon([(0.16, 0.72), (0.84, 0.72), (0.84, 0.79), (0.16, 0.79)], shade(colour, 1.6))
    pen.polygon([(0.6, 0.58), (0.76, 0.7), (0.76, 0.82), (0.62, 0.97), (0.56, 0.97)], shade(colour, 0.76))
    pen.rect((0.3, 0.42, 0.7, 0.47), shade(colour, 0.7), 0.03)
