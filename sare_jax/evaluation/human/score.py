"""Hallucination rates by a person's marks, in CHAIR's manner (paper A.2, and its Eq. 9-10)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.records.annotations import Annotated
from sare_jax.records.texts import Dropped

RULE = (
    "human_s: captions with at least one object marked as hallucinated, of all finished captions; human_i: "
    "marks of hallucinated objects, of all marks; every mark counts, also where a caption repeats an object"
)
COLUMNS = ("captions", "hallucinated", "objects", "objects_hallucinated", "length", "empty", "no_object")
METRICS: dict[str, bootstrap.Metric] = {
    "human_s": bootstrap.share(1, 0),
    "human_i": bootstrap.ratio(3, 2),
    "mean_objects": bootstrap.ratio(2, 0, scale=1.0),
    "mean_words": bootstrap.ratio(4, 0, scale=1.0),
    "empty_rate": bootstrap.share(5, 0, scale=1.0),
}


def finished(items: Sequence[Annotated], dropped: Dropped) -> list[Annotated]:
    """The captions that their annotator has finished; notes the others.

    Raises:
      UserError: none is finished, or no object at all is marked, as in a file of bare captions.
    """
    done = [item for item in items if item.done]
    for item in items:
        if not item.done:
            dropped.add("not finished", item.image)
    if not done:
        reasons = ", ".join(f"{reason}: {len(which)}" for reason, which in dropped.items())
        raise UserError(f"no finished annotation ({reasons or 'nothing read'})")
    if not any(item.marks for item in done):
        raise UserError(f"not one object is marked in {len(done)} captions; give a file of annotations")
    return done


def score(
    items: Sequence[Annotated],
    *,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Human-verified hallucination rates.

    Args:
      items: one person's annotations, one a caption.
      dropped: reason → places of the records that reading left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`, `human_s`, `human_i` in percent, `mean_objects`, `mean_words`, `empty_rate`; what
      they are made of: `n` captions, `n_hallucinated`, `n_objects`, `n_objects_hallucinated`, `n_no_object`;
      `annotators`, `skipped`, `dropped`, `intervals`, `rule`, and `per_image`.

    Raises:
      UserError: nothing finished, or nothing marked.
    """
    dropped = Dropped(dropped or {})
    return rates(finished(items, dropped), dropped, draws=draws, seed=seed)


def rates(done: Sequence[Annotated], dropped: Dropped, *, draws: int, seed: int) -> dict[str, Any]:
    """As `score`, of captions that are all finished; there may be no mark on them.

    Args:
      done: finished annotations, at least one.
      dropped: reason → what was left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples.
    """
    counts = np.array([_row(item) for item in done])
    total = dict(zip(COLUMNS, counts.sum(axis=0).tolist(), strict=True))
    return {
        "metric": "human",
        **{name: bootstrap.value(counts, metric) for name, metric in METRICS.items()},
        "n": total["captions"],
        "n_hallucinated": total["hallucinated"],
        "n_objects": total["objects"],
        "n_objects_hallucinated": total["objects_hallucinated"],
        "n_no_object": total["no_object"],
        "annotators": sorted({item.annotator for item in done if item.annotator}),
        "skipped": sum(map(len, dropped.values())),
        "dropped": dropped.summary(),
        "intervals": bootstrap.intervals(counts, METRICS, draws=draws, seed=seed),
        "rule": RULE,
        "per_image": bootstrap.per_image([item.image for item in done], COLUMNS, counts),
    }


def _row(item: Annotated) -> list[int]:
    """The counts of one caption, in the order of COLUMNS."""
    invented = sum(mark.verdict == "hallucinated" for mark in item.marks)
    empty = not item.caption.strip()
    return [
        1,
        int(invented > 0),
        len(item.marks),
        invented,
        len(item.caption.split()),
        int(empty),
        int(not item.marks),
    ]
