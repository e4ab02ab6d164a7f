"""Precision and recall of the curated sets against annotations. Nothing is selected by this report."""

from collections.abc import Sequence

import numpy as np

from sare_jax.curation.extraction import Scored
from sare_jax.curation.select import Selection
from sare_jax.curation.truth import Marks, Truth


def report(scored: Sequence[Scored], selection: Selection, truth: Truth | Marks) -> dict:
    """Precision and recall of D_neg and D_pos, and how well the score tells present from absent.

    Args:
      scored: the scored captions that `selection` points into.
      selection: D_neg and D_pos.
      truth: says of an object whether it is in the image; annotated categories, or people's marks.

    Returns:
      `judged`, `unjudged`: objects that the annotations can and cannot tell of; `hallucinated`: share of the
      judged ones that is absent; `auc`: probability that a present object scores above an absent one, ties
      half; `neg`, `pos`: of each set its judged size, `precision` (absent, or present, of those in the set)
      and `recall` (in the set, of all that are absent, or present). None where there is nothing to divide by.
    """
    present: list[bool] = []
    scores: list[float] = []
    index: dict[tuple[int, int], int] = {}
    unjudged = 0
    for c, entry in enumerate(scored):
        for o, unit in enumerate(entry.units):
            verdict = truth.verdict(entry.caption, unit)
            if verdict is None:
                unjudged += 1
                continue
            index[c, o] = len(present)
            present.append(verdict)
            scores.append(entry.scores[o])
    there = np.array(present, bool)
    return {
        "judged": len(there),
        "unjudged": unjudged,
        "hallucinated": _share(int((~there).sum()), len(there)),
        "auc": auc(np.array(scores, np.float64), there),
        "neg": _quality(selection.neg, index, ~there),
        "pos": _quality(selection.pos, index, there),
    }


def auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Area under the ROC curve of float[n] scores for bool[n] labels; None where one kind is missing."""
    above, below = scores[positive], np.sort(scores[~positive])
    if not len(above) or not len(below):
        return None
    less = np.searchsorted(below, above, side="left")
    not_more = np.searchsorted(below, above, side="right")
    return float((less + not_more).mean() / (2 * len(below)))


def _quality(chosen: Sequence[tuple[int, int]], index: dict, wanted: np.ndarray) -> dict:
    judged = [index[key] for key in chosen if key in index]
    right = int(wanted[judged].sum()) if judged else 0
    return {
        "judged": len(judged),
        "precision": _share(right, len(judged)),
        "recall": _share(right, int(wanted.sum())),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
