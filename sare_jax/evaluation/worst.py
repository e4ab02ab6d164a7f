"""Takes, of several captions of an image, the one that invents the most objects."""

from collections import defaultdict
from typing import Any

from sare_jax.evaluation.metrics.chair import explain
from sare_jax.records.coco import Truth

RULE = (
    "of each image's captions the one with the most mentions of absent objects is measured, of equal ones "
    "the first; CHAIR_S is then the share of images of which any caption invents an object"
)


def worst_captions(records: list[dict], truth: Truth) -> tuple[list[dict], dict[str, Any]]:
    """Chooses the caption of each image that names the most absent objects.

    Args:
      records: answers with `image_id` and `text`, the same number for each image.
      truth: the objects and reference captions of each image, see `records.coco.read_truth`.

    Returns:
      The chosen answers, in the order of their images; and JSON-able `rule`, `draws` (captions of an image)
      and `hallucinated_draws`, the share of all captions, in percent, that invent an object.
    """
    drawn: dict[int, list[tuple[int, dict]]] = defaultdict(list)
    for record in records:
        categories = truth.categories(record["image_id"])
        invented = sum(item.hallucinated for item in explain(record["text"], categories, truth.table))
        drawn[record["image_id"]].append((invented, record))
    share = sum(invented > 0 for several in drawn.values() for invented, _ in several) / len(records)
    chosen = [max(several, key=lambda pair: pair[0])[1] for several in drawn.values()]
    about = {
        "rule": RULE,
        "draws": max(map(len, drawn.values())),
        "hallucinated_draws": 100.0 * share,
    }
    return chosen, about
