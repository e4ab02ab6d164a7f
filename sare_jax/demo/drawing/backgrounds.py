"""Backgrounds of the demo world, one for each kind of scene."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from sare_jax.demo.drawing.pen import Colour, Pen, jittered, shade


def _pick(rng: np.random.Generator, *colours: Colour) -> Colour:
    """One of the colours, slightly changed."""
    return jittered(colours[rng.integers(len(colours))], rng.integers(-8, 9, 3))


def _window(pen: Pen, left: float, top: float, width: float, height: float) -> None:
    pen.rect((left - 0.015, top - 0.015, left + width + 0.015, top + height + 0.015), (236, 230, 216))
    pen.rect((left, top, left + width, top + height), (168, 208, 236))
    pen.rect((left, top + height * 0.62, left + width, top + height), (150, 190, 150))
    pen.line([(left + width / 2, top), (left + width / 2, top + height)], (236, 230, 216), 0.014)
    pen.line([(left, top + height / 2), (left + width, top + height / 2)], (236, 230, 216), 0.014)


def _cloud(pen: Pen, x: float, y: float, size: float) -> None:
    for dx, dy, part in ((0, 0, 1), (0.7, -0.2, 1.1), (1.4, 0, 0.9)):
        radius = size * part
        pen.oval((x + dx * size - radius, y + dy * size - radius * 0.55,
                  x + dx * size + radius, y + dy * size + radius * 0.55), (246, 248, 250))  # fmt: skip


def _sky(pen: Pen, rng: np.random.Generator, horizon: float) -> None:
    top = _pick(rng, (134, 190, 232), (150, 198, 226), (168, 200, 222))
    for step in range(8):
        pen.rect((0, horizon * step / 8, 1, horizon), shade(top, 1 + step * 0.06))
    for _ in range(rng.integers(1, 4)):
        _cloud(pen, rng.uniform(0, 0.9), rng.uniform(0.05, horizon * 0.55), rng.uniform(0.03, 0.06))


def kitchen(pen: Pen, rng: np.random.Generator) -> None:
    """Tiled wall with a window, and a worktop over cupboards."""
    wall = _pick(rng, (226, 232, 228), (238, 228, 208), (214, 226, 234))
    pen.rect((0, 0, 1, 1), wall)
    for step in np.arange(0, 1.01, 0.09):
        pen.line([(0, step), (1, step)], shade(wall, 0.93), 0.006)
        pen.line([(step, 0), (step, 0.7)], shade(wall, 0.93), 0.006)
    _window(pen, rng.uniform(0.1, 0.6), 0.12, 0.28, 0.26)
    top = _pick(rng, (186, 142, 100), (150, 150, 156), (206, 186, 156))
    front = _pick(rng, (150, 178, 176), (222, 214, 198), (172, 130, 96))
    pen.rect((0, 0.66, 1, 1), top)
    pen.rect((0, 0.66, 1, 0.675), shade(top, 1.4))
    pen.rect((0, 0.955, 1, 1), shade(front, 0.8))


def living_room(pen: Pen, rng: np.random.Generator) -> None:
    """Papered wall with a picture, wooden floor and a rug."""
    wall = _pick(rng, (222, 206, 186), (196, 212, 204), (216, 200, 212), (200, 206, 222))
    pen.rect((0, 0, 1, 1), wall)
    for x in np.arange(0.04, 1, 0.12):
        pen.rect((x, 0, x + 0.05, 0.7), shade(wall, 1.15))
    x = rng.uniform(0.08, 0.66)
    if rng.random() < 0.5:
        _window(pen, x, 0.1, 0.26, 0.3)
    else:
        pen.rect((x, 0.12, x + 0.26, 0.34), (140, 104, 70))
        pen.rect((x + 0.02, 0.14, x + 0.24, 0.32), (190, 214, 220))
        pen.polygon([(x + 0.02, 0.32), (x + 0.1, 0.2), (x + 0.16, 0.26), (x + 0.2, 0.22), (x + 0.24, 0.32)],
                    (110, 146, 120))  # fmt: skip
    floor = _pick(rng, (178, 128, 86), (154, 112, 80), (196, 156, 112))
    pen.rect((0, 0.7, 1, 1), floor)
    for y in (0.76, 0.83, 0.91):
        pen.line([(0, y), (1, y)], shade(floor, 0.88), 0.007)
    pen.rect((0, 0.68, 1, 0.705), shade(wall, 1.5))
    rug = _pick(rng, (176, 96, 92), (96, 120, 152), (128, 144, 104))
    pen.oval((0.1, 0.78, 0.9, 0.98), rug)
    pen.ring((0.15, 0.8, 0.85, 0.96), shade(rug, 1.4), 0.012)


def office(pen: Pen, rng: np.random.Generator) -> None:
    """Plain wall with notes and a blind, and a wide worktop."""
    wall = _pick(rng, (208, 216, 224), (226, 226, 220), (196, 208, 206))
    pen.rect((0, 0, 1, 1), wall)
    x = rng.uniform(0.05, 0.62)
    pen.rect((x, 0.08, x + 0.32, 0.4), (234, 238, 240))
    for y in np.arange(0.1, 0.4, 0.035):
        pen.rect((x, y, x + 0.32, y + 0.018), (200, 206, 212))
    for _ in range(3):
        note_x, note_y = rng.uniform(0.03, 0.9), rng.uniform(0.08, 0.36)
        note = ((244, 226, 130), (248, 190, 190), (190, 226, 190))[rng.integers(3)]
        pen.rect((note_x, note_y, note_x + 0.07, note_y + 0.07), note)
    top = _pick(rng, (176, 130, 88), (206, 172, 130), (120, 92, 72))
    pen.rect((0, 0.6, 1, 1), top)
    pen.rect((0, 0.6, 1, 0.615), shade(top, 1.35))
    for y in (0.7, 0.82, 0.93):
        pen.line([(0, y), (rng.uniform(0.3, 1), y + 0.02)], shade(top, 0.9), 0.006)


def street(pen: Pen, rng: np.random.Generator) -> None:
    """House fronts, a pavement and a road."""
    _sky(pen, rng, 0.66)
    left = -0.05
    while left < 1:
        width, top = rng.uniform(0.2, 0.34), rng.uniform(0.1, 0.34)
        front = _pick(rng, (196, 144, 122), (206, 190, 162), (164, 168, 182), (178, 156, 150))
        pen.rect((left, top, left + width, 0.7), front)
        pen.rect((left, top, left + width, top + 0.02), shade(front, 0.75))
        for x in np.arange(left + 0.035, left + width - 0.05, 0.085):
            for y in np.arange(top + 0.06, 0.6, 0.13):
                pen.rect(
                    (x, y, x + 0.045, y + 0.07), shade(front, 0.6) if rng.random() < 0.75 else (246, 226, 150)
                )
        left += width
    pen.rect((0, 0.68, 1, 0.76), (198, 194, 188))
    road = _pick(rng, (110, 112, 118), (128, 126, 126))
    pen.rect((0, 0.75, 1, 1), road)
    pen.rect((0, 0.745, 1, 0.76), (166, 162, 158))
    for x in np.arange(rng.uniform(-0.15, 0.05), 1, 0.24):
        pen.rect((x, 0.875, x + 0.13, 0.893), (236, 232, 214))


def park(pen: Pen, rng: np.random.Generator) -> None:
    """Trees, a meadow and a path."""
    _sky(pen, rng, 0.6)
    hill = _pick(rng, (150, 190, 130), (136, 180, 140))
    pen.oval((-0.3, 0.44, 0.7, 0.9), hill)
    pen.oval((0.4, 0.48, 1.3, 0.9), shade(hill, 0.93))
    grass = _pick(rng, (116, 170, 84), (134, 178, 92), (104, 158, 92))
    for _ in range(rng.integers(2, 5)):
        x, height = rng.uniform(0, 1), rng.uniform(0.22, 0.34)
        pen.rect((x - 0.014, 0.5, x + 0.014, 0.64), (112, 82, 58))
        crown = _pick(rng, (74, 132, 76), (92, 150, 80), (64, 118, 84))
        pen.oval((x - 0.1, 0.56 - height, x + 0.1, 0.56), crown)
        pen.oval((x - 0.13, 0.6 - height * 0.8, x + 0.05, 0.54), shade(crown, 0.93))
    pen.rect((0, 0.62, 1, 1), grass)
    shift = rng.uniform(-0.3, 0.3)
    pen.polygon(
        [(0.5 + shift, 0.62), (0.54 + shift, 0.62), (0.75 + shift, 1), (0.45 + shift, 1)], (212, 192, 152)
    )
    for _ in range(26):
        x, y = rng.uniform(0, 1), rng.uniform(0.64, 1)
        pen.line([(x, y), (x + 0.012, y - 0.022)], shade(grass, 0.84), 0.007)


def beach(pen: Pen, rng: np.random.Generator) -> None:
    """Sky, sea and sand."""
    _sky(pen, rng, 0.46)
    x = rng.uniform(0.1, 0.9)
    pen.oval((x - 0.06, 0.06, x + 0.06, 0.18), (252, 236, 160))
    sea = _pick(rng, (64, 138, 182), (72, 156, 176), (58, 122, 170))
    pen.rect((0, 0.46, 1, 0.72), sea)
    for _ in range(14):
        wave_x, wave_y = rng.uniform(0, 0.95), rng.uniform(0.48, 0.68)
        pen.line([(wave_x, wave_y), (wave_x + rng.uniform(0.05, 0.14), wave_y)], shade(sea, 1.35), 0.009)
    sand = _pick(rng, (232, 208, 156), (224, 196, 142), (238, 216, 172))
    pen.rect((0, 0.7, 1, 1), sand)
    shore = [(step, 0.695 + 0.012 * np.sin(9 * step + x * 9)) for step in np.linspace(0, 1, 16)]
    pen.line(shore, (246, 248, 244), 0.02)
    for _ in range(30):
        dot_x, dot_y = rng.uniform(0, 1), rng.uniform(0.74, 1)
        pen.oval((dot_x, dot_y, dot_x + 0.008, dot_y + 0.008), shade(sand, 0.86))


_BACKGROUNDS: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    "kitchen": kitchen,
    "living room": living_room,
    "office": office,
    "street": street,
    "park": park,
    "beach": beach,
}


def draw_background(image: Image.Image, kind: str, rng: np.random.Generator) -> None:
    """Fills `image` with the background of a kind of scene, in random variation."""
    _BACKGROUNDS[kind](Pen(ImageDraw.Draw(image), (0, 0, image.width, image.height)), rng)
