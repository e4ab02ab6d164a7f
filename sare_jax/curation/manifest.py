"""Puts the curated sets into arrays, and counts what went into them, for the manifest."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sare_jax.curation.extraction import Scored
from sare_jax.curation.select import Selection
from sare_jax.records.curated import Curated, Rows, Sentences, Units

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def as_curated(scored: Sequence[Scored], selection: Selection, manifest: dict) -> Curated:
    """Puts the selected units and captions into the tables of `sare_jax.records.curated`.

    Args:
      scored: the scored captions; `selection` holds indices into them.
      selection: indices of the units and captions of D_neg, D_pos and D_sent.
      manifest: JSON-able record of how the sets were made, stored with them.
    """
    used = sorted({c for c, _ in selection.neg + selection.pos} | set(selection.sent))
    row_of = {c: row for row, c in enumerate(used)}
    captions = [scored[c].caption for c in used]
    return Curated(
        rows=Rows(
            image=np.array([c.image for c in captions], np.str_),
            image_id=np.array([c.image_id for c in captions], np.int64),
            caption=np.array([c.text for c in captions], np.str_),
        ),
        neg=_units(scored, selection.neg, row_of),
        pos=_units(scored, selection.pos, row_of),
        sent=Sentences(
            row=np.array([row_of[c] for c in selection.sent], np.int32),
            score=np.array([scored[c].scores.mean(dtype=np.float64) for c in selection.sent], np.float32),
            score_min=np.array([scored[c].scores.min() for c in selection.sent], np.float32),
        ),
        manifest=manifest,
    )


def counts(scored: Sequence[Scored], selection: Selection) -> dict:
    """Numbers of captions, images, objects, phrases and units, by name, for the manifest.

    Args:
      scored: all captions, those with a reason in `dropped` too.
      selection: indices of the units and captions of the three sets.
    """
    kept = [s for s in scored if not s.dropped]
    return {
        "captions": len(scored),
        "captions_scored": len(kept),
        "images_scored": len({s.caption.image for s in kept}),
        "images_scored_whole": len({s.caption.image for s in kept if s.whole_image}),
        "objects": sum(len(s.units) for s in kept),
        "phrases": len({unit.object for s in kept for unit in s.units}),
        "neg": len(selection.neg),
        "pos": len(selection.pos),
        "sent": len(selection.sent),
    }


def dropped(scored: Sequence[Scored], selection: Selection) -> dict:
    """Reason → number of what was left out: captions, mentions, objects, and captions for D_sent."""
    return {
        "captions": dict(Counter(s.dropped for s in scored if s.dropped)),
        "mentions": dict(sum((s.left_out for s in scored), Counter())),
        "objects": dict(selection.dropped_objects),
        "sentences": dict(selection.dropped_sentences),
    }


def bad_images(scored: Sequence[Scored]) -> list[dict]:
    """`image`, `reason` and `detail` of every image that could not be used."""
    bad = {s.caption.image: s for s in scored if s.dropped.startswith("image ")}
    return [{"image": name, "reason": s.dropped, "detail": s.detail} for name, s in bad.items()]


def distribution(scored: Sequence[Scored]) -> dict:
    """Quantiles of the objects' scores and of the captions' mean scores."""
    objects = np.concatenate([s.scores for s in scored]).astype(np.float64)
    means = np.array([s.scores.mean(dtype=np.float64) for s in scored])
    return {
        "quantiles": list(_QUANTILES),
        "objects": [float(q) for q in np.quantile(objects, _QUANTILES)],
        "captions": [float(q) for q in np.quantile(means, _QUANTILES)],
    }


def _units(scored: Sequence[Scored], chosen: list[tuple[int, int]], row_of: dict[int, int]) -> Units:
    units = [scored[c].units[o] for c, o in chosen]
    return Units(
        row=np.array([row_of[c] for c, _ in chosen], np.int32),
        start=np.array([u.start for u in units], np.int32),
        end=np.array([u.end for u in units], np.int32),
        object=np.array([u.object for u in units], np.str_),
        mention_start=np.array([u.mention_start for u in units], np.int32),
        mention_end=np.array([u.mention_end for u in units], np.int32),
        score=np.array([scored[c].scores[o] for c, o in chosen], np.float32),
    )
