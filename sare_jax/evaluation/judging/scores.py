"""Scores that some judge has given already, from a file, beside the captions of a row that they are about."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation.columns import NOT_MEASURED
from sare_jax.evaluation.judging.judge import Verdict
from sare_jax.evaluation.judging.parse import LOWEST
from sare_jax.evaluation.judging.rates import summarised
from sare_jax.evaluation.metrics.metric import AtHand
from sare_jax.records.annotations import image_of
from sare_jax.records.texts import Dropped, read_records

RULE = (
    "scores from 1 to 100 that were given elsewhere, each to one caption of one image; an empty caption "
    "without a score has the lowest"
)
HIGHEST = 100

Scores = Mapping[tuple[int | str, str], float]


def read_scores(path: Path) -> Scores:
    """Reads JSON lines of `image_id` (or `image`), `caption` and `score`: (image, caption) → score.

    Raises:
      UserError: no such file, a record without one of the three, a score outside of 1 to 100, or two scores
        of one caption of an image; names file and record.
    """
    if not path.is_file():
        raise UserError(f"config.evaluate.options.informativeness.scores: {path}: no such file")
    scores: dict[tuple[int | str, str], float] = {}
    for number, record in enumerate(read_records(path)[0], start=1):
        image, caption, score = image_of(record), record.get("caption"), record.get("score")
        if image is None or not isinstance(caption, str):
            raise UserError(f"{path}: record {number} needs image_id (or image) and caption")
        if isinstance(score, bool) or not isinstance(score, int | float) or math.isnan(score):
            raise UserError(f"{path}: record {number}: score is {score!r}, need a number")
        if not LOWEST <= score <= HIGHEST:
            raise UserError(f"{path}: record {number}: score is {score}, need {LOWEST} to {HIGHEST}")
        if scores.setdefault((image, caption), score) != score:
            raise UserError(f"{path}: record {number}: image {image} has another score for that caption")
    return scores


def given_scores(at_hand: AtHand, scores: Scores) -> dict[str, Any] | str:
    """Informativeness of a row by scores that are there already.

    A score belongs to an image and a caption to the letter, whichever run gave it. Captions without a score
    are counted as left out.

    Args:
      at_hand: the captions of one run and setting.
      scores: from `read_scores`.

    Returns:
      As `informativeness.score`; a text where none of the captions has a score.
    """
    known = {(at_hand.truth.resolve(image), caption): score for (image, caption), score in scores.items()}
    dropped = Dropped(at_hand.matched.dropped)
    asked, verdicts = [], []
    for image_id, text in zip(at_hand.matched.image_ids, at_hand.matched.texts, strict=True):
        score = known.get((image_id, text), None if text.strip() else float(LOWEST))
        if score is None:
            dropped.add("no score", image_id)
            continue
        asked.append((image_id, text, ""))
        verdicts.append(Verdict(float(score)))
    if not any(text.strip() for _, text, _ in asked):
        return f"{NOT_MEASURED}: no caption has a score"
    found = summarised(asked, verdicts, dropped, draws=at_hand.draws, seed=at_hand.seed)
    return found | {"rule": RULE, "truth": at_hand.truth.describe(), "settings": at_hand.matched.settings}
