"""Reference captions in the manner of COCO: short, each about a few of the objects in sight, and true."""

import numpy as np

from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.scenes import KINDS, Object, Scene

_FORMS = (
    "{0} and {1} {place}.",
    "{0} {verb} next to {1} {place}.",
    "There is {0} with {1} {place}.",
    "A picture of {0} close to {1}.",
    "{0} can be seen {place}.",
    "A view of {0} and {1}.",
    "{0} {verb} {place} near {1}.",
    "Someone took a picture of {0} {place}.",
)


_COLOURED = 0.35  # share of mentions that tell the colour


def references(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Writes five captions, seldom two alike; together they name every object of the scene, and no other."""
    forms = [_FORMS[index] for index in rng.choice(len(_FORMS), size=4, replace=False)]
    return [_everything(scene, rng), *(_some(scene, form, rng) for form in forms)]


def _everything(scene: Scene, rng: np.random.Generator) -> str:
    items = list(scene.objects)
    rng.shuffle(items)
    phrases = [_phrase(item, rng) for item in items]
    listed = ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return _sentence(f"{listed} {KINDS[scene.kind].place}.")


def _some(scene: Scene, form: str, rng: np.random.Generator) -> str:
    """Fills a form; larger objects are likelier to be named, and to be named first."""
    areas = np.array([item.area for item in scene.objects])
    first, second = rng.choice(len(areas), size=2, replace=False, p=areas / areas.sum())
    items = scene.objects[first], scene.objects[second]
    verb = CATEGORIES[items[0].category].verb
    phrases = [_phrase(item, rng) for item in items]
    return _sentence(form.format(*phrases, verb=verb, place=KINDS[scene.kind].place))


def _phrase(item: Object, rng: np.random.Generator) -> str:
    """The object with its article, now and then with its colour."""
    if rng.random() > _COLOURED:
        return CATEGORIES[item.category].phrase
    if item.category == "person":
        return f"a person in {item.colour}"
    return f"a {item.colour} {item.category}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
