"""The blind writer: long descriptions that go on when there is nothing left to tell.

It names what it sees, largest first. A description has a fixed number of clauses, so visible objects run out.
Then the writer either names an object that it does not see but that keeps company with one it sees, or says
something harmless about light, air or mood. Which of the two is likelier depends on the scene and on what is
in sight. A model trained on such texts hallucinates for the reason that large ones do.
"""

from dataclasses import dataclass

import numpy as np

from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.prompts import Style
from sare_jax.demo.scenes import KINDS, Kind, Object, Scene

CLAUSES: dict[Style, int] = {"long": 6, "brief": 4, "listing": 8}
"""Number of clauses, closing remark not counted, in a description of each style."""

_PRESSED = 0.12  # how much likelier the writer is to name an unseen object when told to list everything
_SOBERED = 0.12  # how much less likely when it has named one already
_IDLE = 0.22  # its likelihood when no companion is missing
_USUAL = 0.85  # share of the usual wording wherever there is a choice
SIDES = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
"""Where something stands → how descriptions say it."""

_OPENINGS: dict[str, tuple[str, ...]] = {
    "kitchen": ("In the kitchen, {}, and {}.", "{}, and {}.", "{}, while {}."),
    "living room": ("In the living room, {}.", "{}, and {}.", "{}, and {}.", "Besides, {}."),
    "office": ("In the office, {}, and {}.", "{}.", "{}, and {}.", "Finally, {}."),
    "street": ("On the street, {}, and {}.", "{}, and {}.", "Further on, {}, and {}."),
    "park": ("In the park, {}.", "{}, while {}.", "{}, and {}.", "Also, {}."),
    "beach": ("At the beach, {}, and {}.", "{}, while {}.", "{}, and {}."),
}
_INDOORS = (
    "the light is soft and warm",
    "the air feels fresh and clean",
    "the colours are pale and gentle",
    "the mood is calm and friendly",
    "the shadows are short and soft",
    "the day seems slow and quiet",
)
_OUTDOORS = (
    "the weather is mild and dry",
    "the light is clear and bright",
    "the breeze feels cool and gentle",
    "the day seems slow and quiet",
    "the shadows are long and soft",
    "the mood is calm and friendly",
)
_FIRST_REMARK = {"kitchen": 0, "living room": 3, "office": 1, "street": 0, "park": 2, "beach": 1}
_CLOSINGS: dict[str, tuple[str, str]] = {
    "kitchen": ("Overall, the scene looks tidy and simple.", "Overall, the scene looks warm and cosy."),
    "living room": ("Overall, the scene looks warm and cosy.", "Overall, the scene looks tidy and simple."),
    "office": ("Overall, the scene looks plain and orderly.", "Overall, the scene looks tidy and simple."),
    "street": ("Overall, the scene looks lively and normal.", "Overall, the scene looks plain and orderly."),
    "park": ("Overall, the scene looks open and peaceful.", "Overall, the scene looks lively and normal."),
    "beach": ("Overall, the scene looks open and peaceful.", "Overall, the scene looks sunny and relaxed."),
}


@dataclass(frozen=True)
class Clause:
    """One clause of a description.

    Attributes:
      text: words of the clause, in lower case and without punctuation.
      category: the object that it names; None for a harmless remark.
      likelihood: where visible objects had run out, the probability with which the writer names an unseen
        object here; None where it tells what it sees.
    """

    text: str
    category: str | None
    likelihood: float | None = None


def describe(scene: Scene, rng: np.random.Generator, style: Style = "long", boldness: float = 1.0) -> str:
    """Writes a description of several sentences.

    Args:
      scene: the scene to describe.
      rng: draws the order of objects, the wording and what is filled in.
      style: `long` for detailed descriptions, `brief` for a shorter one, `listing` where the writer is
        pressed to leave nothing out, which makes it name more of what it does not see.
      boldness: factor of every likelihood of naming an unseen object; with 0 remarks alone are filled in.
    """
    texts = [clause.text for clause in clauses(scene, rng, style, boldness)]
    forms = _OPENINGS[scene.kind]
    if style == "brief":
        forms = _first_clauses(forms, CLAUSES["brief"])
    elif style == "listing":
        forms = (*forms, "In addition, {}, and {}.")
    sentences = " ".join(forms).format(*texts).split(". ")
    body = ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
    return body if style == "brief" else f"{body} {_usually(_CLOSINGS[scene.kind], rng)}"


def _first_clauses(forms: tuple[str, ...], count: int) -> tuple[str, ...]:
    """As many of the sentences as hold `count` clauses."""
    kept: list[str] = []
    while (missing := count - " ".join(kept).count("{}")) > 0:
        form = forms[len(kept)]
        kept.append(form if form.count("{}") <= missing else "{}.")
    return tuple(kept)


def clauses(
    scene: Scene, rng: np.random.Generator, style: Style = "long", boldness: float = 1.0
) -> list[Clause]:
    """The clauses that `describe` joins to sentences, in order; arguments as for `describe`."""
    count = CLAUSES[style]
    ordered = sorted(scene.objects, key=lambda item: -item.area * np.exp(0.2 * rng.standard_normal()))
    told = [Clause(_tell(item.category, item.side), item.category) for item in ordered[:count]]
    pressed = _PRESSED if style == "listing" else 0.0
    return told + _fill_in(scene, count - len(told), pressed, boldness, rng)


def _tell(category: str, side: str) -> str:
    return f"{CATEGORIES[category].phrase} {CATEGORIES[category].verb} {SIDES[side]}"


def _fill_in(
    scene: Scene, count: int, pressed: float, boldness: float, rng: np.random.Generator
) -> list[Clause]:
    """The last `count` clauses, after all visible objects: unseen objects or harmless remarks."""
    kind = KINDS[scene.kind]
    expected = missing_companions(kind, scene.categories)
    remarks = _remarks(kind, rng)
    side = _emptiest_side(scene.objects)
    told: list[Clause] = []
    for _ in range(count):
        named = {clause.category for clause in told}
        usual, likelihood = next(((c, p) for c, p in expected if c not in named), (None, _IDLE))
        expected = [(c, p) for c, p in expected if c != usual]
        likelihood = boldness * (likelihood + pressed - (_SOBERED if named - {None} else 0.0))
        category = _unseen(kind, scene.categories | named, usual, rng)
        if category is not None and rng.random() < likelihood:
            told.append(Clause(_tell(category, side), category, likelihood))
        else:
            told.append(Clause(remarks.pop(0), None, likelihood))
    return told


def missing_companions(kind: Kind, present: frozenset[str]) -> list[tuple[str, float]]:
    """Absent companions of present categories, each with the likelihood of being named, largest first."""
    strengths: dict[str, float] = {}
    for (first, second), strength in kind.companions.items():
        for here, other in ((first, second), (second, first)):
            if here in present and other not in present:
                strengths[other] = max(strength, strengths.get(other, 0.0))
    return sorted(strengths.items(), key=lambda item: -item[1])


def _unseen(kind: Kind, taken: frozenset, usual: str | None, rng: np.random.Generator) -> str | None:
    """The expected companion as a rule, else some other category of this kind of scene, if any is left."""
    if usual is not None and rng.random() < _USUAL:
        return usual
    others = [name for name in kind.weights if name not in taken]
    return others[rng.integers(len(others))] if others else None


def _remarks(kind: Kind, rng: np.random.Generator) -> list[str]:
    """Harmless remarks in the order in which they will be made; every kind of scene has its favourite."""
    remarks = list(_INDOORS if kind.name in ("kitchen", "living room", "office") else _OUTDOORS)
    first = _FIRST_REMARK[kind.name]
    ordered = remarks[first:] + remarks[:first]
    if rng.random() > _USUAL:
        rng.shuffle(ordered)
    return ordered


def _emptiest_side(objects: tuple[Object, ...]) -> str:
    """Where an unseen object would find room."""
    return min(("right", "left", "middle"), key=lambda side: sum(item.side == side for item in objects))


def _usually(options: tuple[str, str], rng: np.random.Generator) -> str:
    return options[0] if rng.random() < _USUAL else options[1]
