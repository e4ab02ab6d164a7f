"""Scenes of the demo world: which objects stand where, and in whose company.

A scene is a kind (kitchen, street, …) with two to five objects of different categories. Objects co-occur:
each kind has its own categories, and within a kind some of them are companions that draw one another in.
"""

from dataclasses import dataclass, field

import numpy as np

from sare_jax.demo.categories import CATEGORIES

SIZE = 128
"""Width and height of an image, in pixels."""

_COUNTS = (0.16, 0.30, 0.34, 0.20)  # probability of 2, 3, 4 and 5 objects
_COMPANY = 3.0  # how much likelier an object is when its companion stands there already
_MAX_COVERED = 0.3  # largest share of an object's box that another may cover
_SMALL = 0.07  # share of objects that are drawn small, hence easily overlooked


@dataclass(frozen=True)
class Kind:
    """A kind of scene.

    Attributes:
      name: what descriptions call it ("living room").
      place: adverbial of place, as it opens a description.
      ground: y range of the feet of what stands on the ground (at the farthest, at the nearest).
      weights: how often each category occurs here.
      companions: pairs of categories that keep company; the number is how likely the blind writer is to name
        the half that it does not see (see `writer`).
    """

    name: str
    place: str
    ground: tuple[float, float]
    weights: dict[str, float]
    companions: dict[tuple[str, str], float]


def _shares(text: str) -> dict[str, float]:
    return {name: float(share) for name, share in (item.split() for item in text.split(", "))}


def _pairs(text: str) -> dict[tuple[str, str], float]:
    return {(a, b): float(strength) for a, b, strength in (item.split() for item in text.split(", "))}


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "kitchen", "in the kitchen", (96, 121),
            _shares("bottle 1, cup 1, bowl 1, apple 1, banana 1, refrigerator 1, clock 0.7, cat 0.6"),
            _pairs("cup bowl 0.66, apple banana 0.42, refrigerator bottle 0.58, cat clock 0.34"),
        ),
        Kind(
            "living room", "in the living room", (98, 122),
            _shares("couch 1.2, vase 1.0, book 1.0, clock 0.9, cat 1.0, dog 0.9, laptop 0.6"),
            _pairs("couch cat 0.64, vase book 0.58, dog couch 0.42, clock laptop 0.38"),
        ),
        Kind(
            "office", "in the office", (90, 121),
            _shares("laptop 1.2, cup 1.0, book 1.0, bottle 0.9, clock 0.8, vase 0.7, apple 0.6"),
            _pairs("laptop cup 0.64, book clock 0.44, vase bottle 0.58, apple book 0.36"),
        ),
        Kind(
            "street", "on the street", (96, 123),
            _shares("car 1.2, bus 1.0, bicycle 1.0, person 1.0, bench 0.7, dog 0.6, umbrella 0.6"),
            _pairs("car bus 0.64, bicycle person 0.43, bench dog 0.58, umbrella person 0.40"),
        ),
        Kind(
            "park", "in the park", (92, 123),
            _shares("bench 1.1, bicycle 0.8, bird 0.9, cow 0.7, dog 1.0, kite 0.9, person 0.9"),
            _pairs("bench bird 0.62, kite person 0.60, dog bicycle 0.42, cow bird 0.38"),
        ),
        Kind(
            "beach", "at the beach", (96, 123),
            _shares("boat 1.2, surfboard 1.0, umbrella 1.0, person 1.0, bird 0.8, kite 0.7, dog 0.7"),
            _pairs("boat surfboard 0.64, umbrella person 0.44, kite bird 0.60, dog person 0.38"),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Object:
    """One object of a scene.

    Attributes:
      category: COCO category name.
      box: left, top, right, bottom in pixels, cut at the image's borders.
      full_box: the whole box, which may reach beyond the image.
      colour: name of its main colour.
      mirrored: whether it is drawn mirrored.
    """

    category: str
    box: tuple[float, float, float, float]
    full_box: tuple[float, float, float, float]
    colour: str
    mirrored: bool

    @property
    def area(self) -> float:
        """Area of its box in square pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)

    @property
    def side(self) -> str:
        """See `side_of`."""
        return side_of(self.box[0], self.box[2])


@dataclass(frozen=True)
class Scene:
    """What is in a picture; `objects` are ordered from far to near, so that later ones cover earlier ones."""

    kind: str
    objects: tuple[Object, ...] = field(default=())

    @property
    def categories(self) -> frozenset[str]:
        """Names of the categories in sight."""
        return frozenset(item.category for item in self.objects)


def side_of(left: float, right: float) -> str:
    """`left`, `middle` or `right`, by the centre of a box whose edges are given in pixels."""
    centre = (left + right) / 2 / SIZE
    return "left" if centre < 0.36 else "right" if centre > 0.64 else "middle"


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draws a random scene with two to five objects, none of them wholly hidden."""
    while True:
        kind = KINDS[list(KINDS)[rng.integers(len(KINDS))]]
        objects: list[Object] = []
        for name in _sample_categories(kind, 2 + rng.choice(4, p=_COUNTS), rng):
            placed = _place(kind, name, objects, rng)
            if placed is not None:
                objects.append(placed)
        if len(objects) >= 2:
            return Scene(kind.name, tuple(sorted(objects, key=lambda item: item.full_box[3])))


def _sample_categories(kind: Kind, count: int, rng: np.random.Generator) -> list[str]:
    """Draws different categories one after the other; a companion of one drawn before is likelier."""
    chosen: list[str] = []
    while len(chosen) < count:
        left = [name for name in kind.weights if name not in chosen]
        weights = np.array([kind.weights[name] for name in left])
        for first, second in kind.companions:
            for here, name in ((first, second), (second, first)):
                if here in chosen and name in left:
                    weights[left.index(name)] *= _COMPANY
        chosen.append(left[rng.choice(len(left), p=weights / weights.sum())])
    return chosen


def _place(kind: Kind, name: str, others: list[Object], rng: np.random.Generator) -> Object | None:
    """Finds room for an object, or gives None where the picture is too full."""
    category = CATEGORIES[name]
    small = rng.random() < _SMALL
    for _ in range(40):
        foot, depth = _foot(kind, name, rng)
        height = rng.uniform(*category.height) * depth * (0.68 if small else 1.0)
        width = height * category.aspect * rng.uniform(0.92, 1.08)
        centre = rng.uniform(0.42 * width, SIZE - 0.42 * width)  # may stick out a little
        full = (centre - width / 2, foot - height, centre + width / 2, foot)
        left, top, right, bottom = (float(np.clip(value, 0, SIZE)) for value in full)
        box = (left, top, right, bottom)
        if all(_covered(box, other.box) <= _MAX_COVERED for other in others):
            colour = category.colours[rng.integers(len(category.colours))]
            return Object(name, box, full, colour, bool(rng.random() < 0.5))
    return None


def _foot(kind: Kind, name: str, rng: np.random.Generator) -> tuple[float, float]:
    """The y of an object's lower edge, and its scale by distance."""
    if name in ("bird", "kite"):
        return rng.uniform(36, 66), rng.uniform(0.85, 1.1)
    if name == "clock":
        return rng.uniform(30, 58), rng.uniform(0.9, 1.1)
    if name == "boat":
        return rng.uniform(66, 84), rng.uniform(0.85, 1.1)
    if name == "refrigerator":
        return rng.uniform(106, 116), 1.0
    far, near = kind.ground
    foot = rng.uniform(far, near)
    return foot, 0.86 + 0.24 * (foot - far) / (near - far)


def _covered(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Overlap of two boxes as a share of the smaller one."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return width * height / min(areas)
