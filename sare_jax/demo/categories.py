"""The COCO categories of the demo world: ids, words and sizes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """One category as COCO 2014 numbers it, and how it looks in this world.

    Attributes:
      name: COCO name; also the only word by which the world's texts call it.
      id: COCO category id.
      supercategory: COCO supercategory.
      verb: what such an object does in a description, e.g. `stands`.
      height: smallest and largest height in pixels of a 128-pixel image, before depth and jitter.
      aspect: width divided by height.
      colours: names of its usual main colours (see `drawing.pen.PALETTE`).
    """

    name: str
    id: int
    supercategory: str
    verb: str
    height: tuple[float, float]
    aspect: float
    colours: tuple[str, ...]

    @property
    def article(self) -> str:
        """Indefinite article of the name."""
        return "an" if self.name[0] in "aeiou" else "a"

    @property
    def phrase(self) -> str:
        """Name with its indefinite article."""
        return f"{self.article} {self.name}"


_COATS = ("brown", "black", "grey", "white", "tan")
_PAINTS = ("red", "blue", "yellow", "green", "white")
_GLAZES = ("blue", "white", "red", "green", "yellow", "purple")

_ALL = (
    Category("person", 1, "person", "stands", (46, 60), 0.42, ("red", "blue", "green", "yellow", "purple")),
    Category("bicycle", 2, "vehicle", "leans", (31, 41), 1.55, ("red", "blue", "green", "black", "purple")),
    Category("car", 3, "vehicle", "waits", (26, 34), 2.0, _PAINTS),
    Category("bus", 6, "vehicle", "stops", (38, 48), 1.7, ("red", "blue", "yellow", "green")),
    Category("boat", 9, "vehicle", "floats", (34, 46), 1.05, ("red", "blue", "brown", "green")),
    Category("bench", 15, "outdoor", "stands", (25, 33), 1.75, ("brown", "green", "tan")),
    Category("bird", 16, "animal", "flies", (18, 25), 1.45, ("black", "white", "blue", "red")),
    Category("cat", 17, "animal", "sits", (28, 37), 0.85, ("black", "grey", "ginger", "white")),
    Category("dog", 18, "animal", "rests", (28, 37), 1.25, ("brown", "tan", "black")),
    Category("cow", 21, "animal", "grazes", (35, 45), 1.5, ("white", "brown")),
    Category(
        "umbrella", 28, "accessory", "opens", (38, 49), 1.0, ("red", "blue", "yellow", "purple", "pink")
    ),
    Category("kite", 38, "sports", "hovers", (33, 44), 0.72, ("red", "blue", "yellow", "pink", "purple")),
    Category("surfboard", 42, "sports", "stands", (40, 52), 0.34, ("yellow", "red", "blue", "pink", "white")),
    Category("bottle", 44, "kitchen", "stands", (32, 42), 0.36, ("green", "brown", "blue", "red")),
    Category("cup", 47, "kitchen", "stands", (21, 28), 1.15, _GLAZES),
    Category("bowl", 51, "kitchen", "rests", (19, 25), 1.75, _GLAZES),
    Category("banana", 52, "food", "lies", (19, 25), 1.55, ("yellow",)),
    Category("apple", 53, "food", "lies", (21, 27), 0.95, ("red", "green")),
    Category("couch", 63, "furniture", "stands", (34, 42), 1.85, ("red", "blue", "green", "purple", "tan")),
    Category("laptop", 73, "electronic", "rests", (28, 37), 1.35, ("grey", "black", "white")),
    Category("refrigerator", 82, "appliance", "stands", (62, 78), 0.52, ("white", "grey", "red", "blue")),
    Category("book", 84, "indoor", "lies", (19, 25), 1.75, ("red", "blue", "green", "purple", "brown")),
    Category("clock", 85, "indoor", "hangs", (24, 31), 1.0, ("red", "blue", "black", "brown")),
    Category("vase", 86, "indoor", "stands", (35, 46), 0.58, ("blue", "white", "red", "purple", "green")),
)

CATEGORIES: dict[str, Category] = {category.name: category for category in _ALL}
