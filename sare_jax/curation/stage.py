"""Stage 2 of the road: captions and images in, the curated folder out (Sec. 3.3 of the paper)."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from sare_jax import files
from sare_jax.curation import audit, manifest
from sare_jax.curation.captions import read_captions, refuse_reserved, usable_images
from sare_jax.curation.clip import OPENAI, Clip, ClipConfig
from sare_jax.curation.journal import open_scratch
from sare_jax.curation.objects import DEFAULT_MODEL, load_tagger, tagger_name
from sare_jax.curation.scored import DEFAULT_WORK, BadImages, Scored, Scorer, Work, extract, score
from sare_jax.curation.select import PAPER, Conflicts, Quantiles, Rule, Selection, Thresholds, select
from sare_jax.curation.windows import PAPER_WINDOWS, Windows
from sare_jax.data.curated import write_curated
from sare_jax.errors import UserError

_SCRATCH_FORMAT = 1  # raised when the meaning of the kept scores changes


def curate(
    captions: Path,
    images: Path,
    out: Path,
    *,
    clip: ClipConfig = OPENAI,
    rule: Rule = "paper",
    thresholds: Thresholds | Quantiles = PAPER,
    windows: Windows | None = PAPER_WINDOWS,
    conflicts: Conflicts = "keep",
    bad_images: BadImages = "skip",
    tagger: str = DEFAULT_MODEL,
    reserved: Collection[int] = (),
    truth: audit.Truth | None = None,
    work: Work = DEFAULT_WORK,
) -> dict:
    """Curates D_neg, D_pos and D_sent.

    Scores are kept in `<out>_scores/`, batch by batch: an interrupted run goes on there, and a run with other
    thresholds or another rule scores nothing anew. `out` is replaced when everything is done.

    Args:
      captions: JSON lines as `captions.read_captions` takes them.
      images: folder of the captioned images.
      out: folder to write, as `sare_jax.data.curated` reads it.
      clip: the scoring model.
      rule: sentence rule, see `select`.
      thresholds: limits, or the quantiles of the scores at which they lie.
      windows: geometry of mode `windows`; None scores whole images.
      conflicts: what becomes of a piece with a grounded and a hallucinated object, see `select`.
      bad_images: whether an image that cannot be used is left out and named, or ends the run.
      tagger: spaCy model by name or folder.
      reserved: image ids that must not be curated (validation and test).
      truth: what is in the images; for the record of precision and recall alone, never for the selection.
      work: batch sizes and threads.

    Returns:
      The manifest, as written.

    Raises:
      UserError: nothing is left at some step, or an input is missing or unusable; names it and the way out.
    """
    captions, images, out = Path(captions), Path(images), Path(out)
    listed = read_captions(captions)
    refuse_reserved(listed, reserved)
    if truth is not None:
        truth.require(c.image_id for c in listed)
    found, refused = usable_images(listed, images)
    if refused and bad_images == "raise":
        name, reason = next(iter(refused.items()))
        raise UserError(f"{images / name}: {reason}")
    model, nlp = Clip(clip), load_tagger(tagger)
    if isinstance(thresholds, Thresholds):
        thresholds.check_model(model.id)

    source = _source(captions, images, found, model, tagger_name(nlp), windows, work)
    scratch = open_scratch(out.with_name(f"{out.name}_scores"), files.hash_value(source))
    scored = extract(listed, nlp, scratch)
    scorer = Scorer(model, windows, images, work)
    score(scored, refused, scorer, scratch=scratch, bad_images=bad_images)
    kept = _kept(scored, captions)
    if isinstance(thresholds, Quantiles):
        thresholds = thresholds.thresholds([s.scores for s in kept], model.id)
    selection = _select(kept, thresholds, rule, conflicts)
    record = _record(source, scored, kept, selection, thresholds, rule, conflicts)
    if truth is not None:
        record["audit"] = audit.report(kept, selection, truth)
    write_curated(out, manifest.as_curated(kept, selection, record))
    return record


def _source(
    captions: Path,
    images: Path,
    found: Sequence[str],
    model: Clip,
    tagger: str,
    windows: Windows | None,
    work: Work,
) -> dict:
    """All that the scores depend on; their hash guards the kept scores. Sizes stand for the images' content.

    The batch sizes are part of it since a batch's size moves a score's last bits.
    """
    return {
        "scratch_format": _SCRATCH_FORMAT,
        "captions": files.hash_file(captions),
        "images": files.hash_value([[name, (images / name).stat().st_size] for name in found]),
        "clip": {
            "model": model.id,
            "weights": model.weights_hash,
            "prompt": model.config.prompt,
            "precision": model.config.precision,
            "scale": model.scale,
            "preprocessing": model.preprocessing,
        },
        "tagger": tagger,
        "mode": "windows" if windows else "whole",
        "windows": asdict(windows) if windows else None,
        "batches": {"images": work.image_batch, "views": work.view_batch},
    }


def _kept(scored: Sequence[Scored], captions: Path) -> list[Scored]:
    kept = [s for s in scored if not s.dropped]
    if not kept:
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(s.dropped for s in scored).items())
        raise UserError(f"{captions}: no caption is left to curate ({reasons})")
    return kept


def _select(kept: Sequence[Scored], thresholds: Thresholds, rule: Rule, conflicts: Conflicts) -> Selection:
    selection = select(
        [s.scores for s in kept],
        [[(unit.start, unit.end) for unit in s.units] for s in kept],
        thresholds,
        rule=rule,
        conflicts=conflicts,
        cut_off=[s.caption.cut_off for s in kept],
    )
    if not selection.neg:
        least = min(float(s.scores.min()) for s in kept)
        raise UserError(
            f"D_neg is empty: no object scores below t1 = {thresholds.t1:g} (the least has {least:.2f}); "
            "raise curate.t1 or curate.q1, or choose thresholds by quantiles (curate.thresholds=quantile)"
        )
    return selection


def _record(
    source: dict,
    scored: Sequence[Scored],
    kept: Sequence[Scored],
    selection: Selection,
    thresholds: Thresholds,
    rule: Rule,
    conflicts: Conflicts,
) -> dict:
    """The manifest: what was made from what, by which rules, and what was left out and why."""
    return source | {
        "sentence_rule": rule,
        "thresholds": asdict(thresholds),
        "conflicts": {"rule": conflicts, "pieces": selection.conflicts},
        "counts": manifest.counts(scored, selection),
        "dropped": manifest.dropped(scored, selection),
        "bad_images": manifest.bad_images(scored),
        "scores": manifest.distribution(kept),
    }
