"""Selects D_neg, D_pos and D_sent by the scores (Eq. 2 and 3)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sare_jax.errors import UserError
from sare_jax.settings import FixedThresholds, QuantileThresholds

Rule = Literal["paper", "efuf"]
Conflicts = Literal["keep", "drop", "neg_wins"]


@dataclass(frozen=True)
class Thresholds:
    """Limits on CLIP scores; scores of different CLIP models are not comparable.

    Attributes:
      t0: S(o) > t0 is grounded.
      t1: S(o) < t1 is hallucinated.
      t2: S(y) > t2 is a reliable caption.
      model: id of the CLIP model that they were chosen for; empty if the user gave them, for any model.
      chosen: how they were chosen, for the manifest.
    """

    t0: float
    t1: float
    t2: float
    model: str = ""
    chosen: dict = field(default_factory=lambda: {"how": "given"})

    def check_model(self, clip_id: str) -> None:
        """Refuses a model that these thresholds do not belong to (cases CUR-12)."""
        if self.model and self.model != clip_id:
            raise UserError(
                f"thresholds {self.t0:g}/{self.t1:g}/{self.t2:g} belong to CLIP model {self.model}, but "
                f"scores come from {clip_id}; choose them by quantiles (thresholds.kind=quantile) or give "
                "your own"
            )


_FIXED = FixedThresholds()

# A.3 of the paper; the scores behind them are logits of OpenAI's ViT-B/32 (protocols 1.3).
PAPER = Thresholds(
    _FIXED.t0, _FIXED.t1, _FIXED.t2, model="ViT-B-32-quickgelu/openai", chosen={"how": "paper, A.3"}
)


def by_numbers(settings: FixedThresholds) -> Thresholds:
    """Limits as the settings say; the paper's refuse any CLIP model but its own."""
    return PAPER if settings == _FIXED else Thresholds(settings.t0, settings.t1, settings.t2)


def by_quantiles(settings: QuantileThresholds, scores: Sequence[np.ndarray], clip_id: str) -> Thresholds:
    """Limits at quantiles of the scores: t0 and t1 of all objects' scores, t2 of the captions' means.

    Args:
      settings: the quantiles `q0`, `q1` and `q2`, from 0 to 1.
      scores: a float32[objects] array per caption.
      clip_id: id of the CLIP model that the scores come from.
    """
    objects = np.concatenate(scores).astype(np.float64)
    means = np.array([s.mean() for s in scores if len(s)], np.float64)
    t0, t1 = np.quantile(objects, [settings.q0, settings.q1])
    chosen = {"how": "quantiles of the scores", "q0": settings.q0, "q1": settings.q1, "q2": settings.q2}
    return Thresholds(float(t0), float(t1), float(np.quantile(means, settings.q2)), clip_id, chosen)


@dataclass(frozen=True)
class Selection:
    """Indices into the captions and their objects.

    Attributes:
      neg: (caption, object) pairs of D_neg, in order.
      pos: (caption, object) pairs of D_pos, in order.
      sent: captions of D_sent, in order.
      conflicts: pieces that hold a grounded and a hallucinated object.
      dropped_objects: reason → number of objects in neither set, or taken out of one for a conflict.
      dropped_sentences: reason → number of captions that are not in D_sent.
    """

    neg: list[tuple[int, int]]
    pos: list[tuple[int, int]]
    sent: list[int]
    conflicts: int
    dropped_objects: Counter
    dropped_sentences: Counter


def select(
    scores: Sequence[np.ndarray],
    pieces: Sequence[Sequence[tuple[int, int]]],
    thresholds: Thresholds,
    *,
    rule: Rule = "paper",
    conflicts: Conflicts = "keep",
    cut_off: Sequence[bool] | None = None,
) -> Selection:
    """Sorts objects into D_neg and D_pos, captions into D_sent; every comparison is strict.

    Args:
      scores: a float32[objects] array per caption.
      pieces: per caption, the (start, end) span of each object's sub-sentence, in characters.
      thresholds: T0, T1 and T2.
      rule: `paper` keeps a caption whose mean score is above T2 (Eq. 3); `efuf` asks besides that its least
        score be above T1 (protocols 1.5).
      conflicts: what becomes of a piece that holds a grounded and a hallucinated object: `keep` puts it into
        both sets, as paper and EFUF do; `neg_wins` into D_neg alone; `drop` into none.
      cut_off: per caption, whether it stopped at the token limit. D_sent teaches the model to end captions,
        so it takes no such caption.

    Raises:
      ValueError: a caption's scores and pieces differ in number.
    """
    all_neg: list[tuple[int, int]] = []
    all_pos: list[tuple[int, int]] = []
    sent: list[int] = []
    objects: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    clashes = 0
    for c, (score, spans) in enumerate(zip(scores, pieces, strict=True)):
        if len(score) != len(spans):
            raise ValueError(f"caption {c}: {len(score)} scores for {len(spans)} objects")
        neg = [o for o in range(len(score)) if score[o] < thresholds.t1]
        pos = [o for o in range(len(score)) if score[o] > thresholds.t0]
        both = {spans[o] for o in neg} & {spans[o] for o in pos}
        kept_neg = [o for o in neg if conflicts != "drop" or spans[o] not in both]
        kept_pos = [o for o in pos if conflicts == "keep" or spans[o] not in both]
        clashes += len(both)
        objects["between_t1_and_t0"] += len(score) - len(neg) - len(pos)
        objects["conflict"] += len(neg) + len(pos) - len(kept_neg) - len(kept_pos)
        all_neg.extend((c, o) for o in kept_neg)
        all_pos.extend((c, o) for o in kept_pos)
        reason = _unreliable(score, thresholds, rule, bool(cut_off and cut_off[c]))
        if reason:
            sentences[reason] += 1
        else:
            sent.append(c)
    return Selection(all_neg, all_pos, sent, clashes, +objects, +sentences)


def _unreliable(score: np.ndarray, thresholds: Thresholds, rule: Rule, cut_off: bool) -> str:
    """Why a caption is not in D_sent; an empty string if it is."""
    if not score.mean(dtype=np.float64) > thresholds.t2:
        return "mean_not_above_t2"
    if rule == "efuf" and not score.min() > thresholds.t1:
        return "minimum_not_above_t1"
    return "cut_off" if cut_off else ""
