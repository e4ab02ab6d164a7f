"""People's marks, from a file, beside the captions of a row that they are about."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation.columns import NOT_MEASURED
from sare_jax.evaluation.human.score import finished, rates
from sare_jax.evaluation.metrics.metric import AtHand
from sare_jax.files import hash_file
from sare_jax.records.annotations import read_annotations
from sare_jax.records.texts import Dropped
from sare_jax.settings.building import at_least


@dataclass(frozen=True)
class HumanSettings:
    """What people mark, and where their marks are."""

    #: Captions of each run and setting that are put into the session that people mark
    #: (`WORKDIR/human/session.jsonl`): the same images for all. 0 makes no session.
    captions: int = 100
    #: Seed of the draw of these images, and of the session's order.
    seed: int = 0
    #: File of marks, as `python -m sare_jax.evaluation human serve` writes it, finished or not, or lines
    #: `image ### text` with {correct} and [hallucinated] objects; empty leaves people's marks out.
    marks: str = ""

    def check(self, where: str) -> None:
        """Refuses numbers below 0."""
        at_least(self.captions, 0, f"{where}.captions")


def check(settings: HumanSettings) -> None:
    """Refuses a file that is not there or holds no marks, before a model is asked."""
    if settings.marks:
        if not Path(settings.marks).is_file():
            raise UserError(f"config.evaluate.options.human.marks: {settings.marks}: no such file")
        finished(read_annotations(settings.marks)[0], Dropped())


def depends_on(settings: HumanSettings) -> str | None:
    """Content hash of the file; the numbers depend on nothing else here."""
    return hash_file(Path(settings.marks)) if settings.marks else None


def measure(at_hand: AtHand, settings: HumanSettings) -> dict[str, Any] | str:
    """Hallucination rates of those captions of a row that somebody marked.

    Marks belong to an image and a caption's words, whichever run gave them. So marks of a caption that a
    model does not give any more are not counted, and no key is needed to see whose a caption was.

    Args:
      at_hand: the captions of one run and setting.
      settings: the file of marks.

    Returns:
      As `score.rates`, with `n_drawn`: captions of this row that are about an image in the file. A text where
      none of them is marked.
    """
    if not settings.marks:
        return NOT_MEASURED
    items, dropped = read_annotations(settings.marks)
    marked = {(at_hand.truth.resolve(item.image), _words(item.caption)): item for item in items}
    images = {image_id for image_id, _ in marked}
    drawn = [
        (image_id, text)
        for image_id, text in zip(at_hand.matched.image_ids, at_hand.matched.texts, strict=True)
        if image_id in images
    ]
    done = []
    for image_id, text in drawn:
        item = marked.get((image_id, _words(text)))
        if item is None:
            dropped.add("another caption was marked", image_id)
        elif item.done:
            done.append(item)
        else:
            dropped.add("not finished", image_id)
    if not done:
        return f"{NOT_MEASURED}: none of the {len(drawn)} captions is marked"
    return rates(done, dropped, draws=at_hand.draws, seed=at_hand.seed) | {"n_drawn": len(drawn)}


def _words(text: str) -> str:
    """A caption with single spaces: a line of brackets cannot hold a line's end."""
    return " ".join(text.split())
