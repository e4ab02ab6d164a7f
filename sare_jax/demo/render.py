"""Scenes as images."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from sare_jax.demo.drawing import animals, household, kitchen, outdoor, vehicles
from sare_jax.demo.drawing.backgrounds import draw_background
from sare_jax.demo.drawing.pen import PALETTE, Box, Colour, Pen, jittered
from sare_jax.demo.scenes import SIZE, Object, Scene

_SCALE = 2  # drawn larger, then reduced, for smooth edges
_NOISE = 5.0  # standard deviation of the pixel noise, out of 255

DRAWINGS: dict[str, Callable[[Pen, Colour, np.random.Generator], None]] = {
    "person": animals.person,
    "bicycle": vehicles.bicycle,
    "car": vehicles.car,
    "bus": vehicles.bus,
    "boat": vehicles.boat,
    "bench": outdoor.bench,
    "bird": animals.bird,
    "cat": animals.cat,
    "dog": animals.dog,
    "cow": animals.cow,
    "umbrella": outdoor.umbrella,
    "kite": outdoor.kite,
    "surfboard": outdoor.surfboard,
    "bottle": kitchen.bottle,
    "cup": kitchen.cup,
    "bowl": kitchen.bowl,
    "banana": kitchen.banana,
    "apple": kitchen.apple,
    "couch": household.couch,
    "laptop": household.laptop,
    "refrigerator": household.refrigerator,
    "book": household.book,
    "clock": household.clock,
    "vase": household.vase,
}
_NO_SHADOW = frozenset({"bird", "kite", "boat", "clock"})


def render(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Draws a scene.

    Args:
      scene: what to draw, and where.
      rng: for background, shades, small variations of every drawing, light and noise.

    Returns:
      An RGB image of `SIZE` × `SIZE` pixels.
    """
    canvas = Image.new("RGB", (SIZE * _SCALE, SIZE * _SCALE))
    draw_background(canvas, scene.kind, rng)
    draw = ImageDraw.Draw(canvas)
    for item in scene.objects:
        _draw_object(draw, item, rng)
    pixels = np.asarray(canvas.reduce(_SCALE), dtype=np.float32)
    light = rng.uniform(0.9, 1.08) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * _NOISE
    return Image.fromarray(np.clip(pixels * light + noise, 0, 255).astype(np.uint8))


def _draw_object(draw: ImageDraw.ImageDraw, item: Object, rng: np.random.Generator) -> None:
    left, top, right, bottom = item.full_box
    box = (left * _SCALE, top * _SCALE, right * _SCALE, bottom * _SCALE)
    if item.category not in _NO_SHADOW:
        _draw_shadow(draw, box)
    colour = jittered(PALETTE[item.colour], rng.integers(-16, 17, 3))
    DRAWINGS[item.category](Pen(draw, box, mirrored=item.mirrored), colour, rng)


def _draw_shadow(draw: ImageDraw.ImageDraw, box: Box) -> None:
    """A soft-looking patch of shade where the object touches the ground."""
    left, _, right, bottom = box
    height = 0.07 * (right - left) + 2
    draw.ellipse((left + 1, bottom - height, right - 1, bottom + height * 0.6), fill=(96, 90, 84))
