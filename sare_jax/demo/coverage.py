"""Coverage of the demo's pictures: the share of what is in them that captions tell, which is known exactly.

A picture's facts are its objects, and for each object whether it stands on the left, in the middle or on the
right; both are what the world's descriptions tell. No judge is asked, so this is not the paper's
informativeness, and it stands in a column of its own.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sare_jax import files
from sare_jax.demo.scenes import side_of
from sare_jax.demo.writer import SIDES
from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.columns import Measure, ungrouped
from sare_jax.evaluation.metrics.metric import AtHand, Metric
from sare_jax.language.words import categories_in

NAME = "demo_coverage"
COLUMNS = ("facts", "told", "objects", "named", "placed")
METRICS: dict[str, bootstrap.Metric] = {
    "coverage": bootstrap.ratio(1, 0),
    "objects": bootstrap.ratio(3, 2),
    "placed": bootstrap.ratio(4, 3),
}
RULE = (
    "the facts of a picture are its objects and the side on which each stands; a caption tells an object by "
    "naming it, and its side where the name is followed by it within the same clause"
)
_CLAUSE_END = re.compile(r"[,.]|\b(?:and|while)\b")
_SIDE = re.compile("|".join(map(re.escape, SIDES.values())))


class Told(NamedTuple):
    """What a caption tells of a picture: numbers of objects, of those named, and of those placed rightly."""

    objects: int
    named: int
    placed: int


def told(caption: str, there: Sequence[tuple[str, str]]) -> Told:
    """Compares a caption with a picture.

    Args:
      caption: its text, in the words of the demo's world.
      there: (category, `left`, `middle` or `right`) of each object of the picture.
    """
    stated: dict[str, set[str]] = {}
    mentions = categories_in(caption)
    ends = [*(mention.start for mention in mentions[1:]), len(caption)]
    for mention, end in zip(mentions, ends[: len(mentions)], strict=True):
        clause = _CLAUSE_END.split(caption[mention.end : end], maxsplit=1)[0]
        stated.setdefault(mention.category, set()).update(_SIDE.findall(clause))
    named = [(category, side) for category, side in there if category in stated]
    placed = sum(SIDES[side] in stated[category] for category, side in named)
    return Told(len(there), len(named), placed)


def _measure(at_hand: AtHand, settings: None) -> dict[str, Any]:
    sides = _sides(Path(at_hand.truth.source))
    captions = at_hand.matched
    if missing := [image_id for image_id in captions.image_ids if image_id not in sides]:
        raise UserError(
            f"{at_hand.truth.source}: no boxes of image {missing[0]}; {NAME} needs the annotations/ of a "
            "drawn world"
        )
    compared = [
        told(text, sides[image_id]) for image_id, text in zip(captions.image_ids, captions.texts, strict=True)
    ]
    counts = np.array([[2 * t.objects, t.named + t.placed, t.objects, t.named, t.placed] for t in compared])
    return {
        "metric": NAME,
        **{name: bootstrap.value(counts, metric) for name, metric in METRICS.items()},
        "n": len(counts),
        "intervals": bootstrap.intervals(counts, METRICS, draws=at_hand.draws, seed=at_hand.seed),
        "rule": RULE,
        "per_image": bootstrap.per_image(captions.image_ids, COLUMNS, counts),
    }


def _sides(annotations: Path) -> dict[int, list[tuple[str, str]]]:
    """Image id → category and side of each object, from a world's annotation files."""
    sides: dict[int, list[tuple[str, str]]] = {}
    for path in sorted(annotations.glob("instances_*.json")):
        content = files.read_json(path)
        names = {category["id"]: category["name"] for category in content["categories"]}
        for image in content["images"]:
            sides[image["id"]] = []
        for item in content["annotations"]:
            left, _, width, _ = item["bbox"]
            sides[item["image_id"]].append((names[item["category_id"]], side_of(left, left + width)))
    return sides


METRIC = Metric(
    name=NAME,
    title="Coverage (exact)",
    about="share of the facts of a picture of the demo's world that its caption tells",
    measure=_measure,
    counts={NAME: ungrouped(COLUMNS, METRICS)},
    columns=(
        Measure(
            NAME,
            "Coverage (exact)",
            (NAME, "coverage"),
            "higher",
            help="Share of the pictures' facts, in percent, that captions tell: objects, and on which side "
            "they stand. From the drawn world's own truth; no judge was asked.",
        ),
    ),
    rules={"": "Coverage (exact)"},
)
