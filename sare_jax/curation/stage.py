"""Stage 2 of the road: captions and images in, the curated folder out (Sec. 3.3 of the paper)."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sare_jax import files
from sare_jax.curation import audit, manifest
from sare_jax.curation.calibrate import Audit, chosen
from sare_jax.curation.captions import (
    Caption,
    images_without_caption,
    read_captions,
    refuse_reserved,
    told,
    usable_images,
)
from sare_jax.curation.clip import Clip
from sare_jax.curation.extraction import Scored, extract, hash_units
from sare_jax.curation.kept import kept_beside
from sare_jax.curation.objects import spacy_extractor
from sare_jax.curation.recipe import Recipe
from sare_jax.curation.scored import BadImages, Plan, score
from sare_jax.curation.select import Selection, Thresholds, select
from sare_jax.curation.truth import Marks, Truth
from sare_jax.curation.units import phrases_of
from sare_jax.data.contents import Contents
from sare_jax.errors import UserError
from sare_jax.locks import locked
from sare_jax.records.curated import write_curated
from sare_jax.records.journal import open_scratch

_SCRATCH_FORMAT = 3  # raised when the meaning of the kept scores changes
_NAMED = 20  # images in a message


def curate(
    captions: Path,
    images: Path,
    out: Path,
    recipe: Recipe = Recipe(),  # noqa: B008, immutable
    *,
    reserved: Collection[int] = (),
    truth: Truth | Marks | None = None,
    contents: Contents | None = None,
) -> dict:
    """Curates D_neg, D_pos and D_sent.

    What was scored before is not scored again, see `gather`. `out` is replaced when everything is done.

    Args:
      captions: a file as `captions.read_captions` takes it.
      images: folder of the captioned images.
      out: folder to write, as `sare_jax.records.curated` reads it.
      recipe: scoring model, thresholds, extractor and so on, from `recipe_of` the settings.
      reserved: image ids that must not be curated (validation and test).
      truth: what is in the images, for the record of precision and recall; nothing is selected by it.
      contents: hashes of the images' contents; None keeps them beside `out`.

    Returns:
      The manifest, as written.

    Raises:
      UserError: nothing is left at some step, or an input is missing or unusable; names it and the way out.
    """
    limits = recipe.thresholds
    if isinstance(limits, Audit):
        truth = truth or limits.truth
    listed = look(captions, images, bad_images=recipe.bad_images, reserved=reserved, truth=truth)
    if isinstance(limits, Audit):
        limits.truth.require(listed.captions)
    model = Clip(recipe.clip)
    if isinstance(limits, Thresholds):
        limits.check_model(model.id)
    evidence = gather(listed, out, model, recipe, contents)
    numbers = chosen(limits, evidence.kept, model.id)
    selection = _select(evidence.kept, numbers, recipe)
    record = _record(evidence, selection, numbers, recipe)
    if truth is not None:
        record["audit"] = audit.report(evidence.kept, selection, truth)
    write_curated(Path(out), manifest.as_curated(evidence.kept, selection, record))
    return record


@dataclass(frozen=True)
class Listed:
    """Captions and images that were looked at before anything is computed.

    Attributes:
      path: file of the captions.
      images: folder of the images.
      captions: the captions that can be read.
      left_out: reason → number of records that are no caption.
      found: names of the images that are there.
      refused: name → reason, for the others.
      bad_images: what becomes of an image that cannot be used.
    """

    path: Path
    images: Path
    captions: list[Caption]
    left_out: Counter
    found: list[str]
    refused: dict[str, str]
    bad_images: BadImages


@dataclass(frozen=True)
class Evidence:
    """Scored captions, before anything is selected.

    Attributes:
      listed: what they were made from.
      scored: every caption, the dropped ones too.
      kept: those that have scores.
      source: all that the scores depend on.
      cut_phrases: objects whose names the text encoder does not read to the end.
    """

    listed: Listed
    scored: list[Scored]
    kept: list[Scored]
    source: dict
    cut_phrases: list[str]


def look(
    captions: Path,
    images: Path,
    *,
    bad_images: BadImages = "skip",
    reserved: Collection[int] = (),
    truth: Truth | Marks | None = None,
) -> Listed:
    """Reads the captions and looks for their images; arguments as in `curate`.

    Raises:
      UserError: nothing is left, or an image is reserved or, with `raise`, missing, or has no annotations.
    """
    captions, images = Path(captions), Path(images)
    listed, left_out = read_captions(captions, images)
    refuse_reserved(listed, reserved)
    if truth is not None:
        truth.require(listed)
    found, refused = usable_images(listed, images)
    if refused and bad_images == "raise":
        raise UserError(f"{images}: {len(refused)} images cannot be used: {_named(refused)}")
    return Listed(captions, images, listed, left_out, found, refused, bad_images)


def gather(
    listed: Listed, out: Path, model: Clip, recipe: Recipe, contents: Contents | None = None
) -> Evidence:
    """Finds the objects of the captions and scores them.

    Objects and scores are kept in the hidden folder `kept_beside(out)`, batch by batch: an interrupted run
    goes on there, and what selects by other rules scores nothing anew.

    Args:
      listed: captions and images.
      out: folder beside which is kept.
      model: the scoring model, loaded.
      recipe: geometry, extractor, batch sizes and engine.
      contents: as in `curate`.

    Raises:
      UserError: nothing is left at some step, or another run is at work beside `out`.
    """
    out, extractor = Path(out), recipe.extractor or spacy_extractor()
    with locked(out.with_name(f".{out.name}.lock"), out):
        kept = kept_beside(out)
        contents = contents or Contents(kept / "images.json")
        source = _source(listed, model, extractor.name, recipe, contents)
        key = files.hash_value({"captions": source["captions"], "extractor": extractor.name})
        scored = extract(listed.captions, extractor, open_scratch(kept / "objects", key))
        key = files.hash_value(source | {"units": hash_units(scored)})
        scratch = open_scratch(kept / "scores", key)
        plan = Plan(recipe.windows, listed.images, recipe.work, recipe.max_pixels)
        score(
            scored,
            listed.refused,
            model,
            plan,
            scratch=scratch,
            engine=recipe.engine,
            bad_images=listed.bad_images,
        )
    usable = _usable(scored, listed.path)
    cut = model.cut_phrases(phrases_of(s.units for s in usable))
    return Evidence(listed, scored, usable, source, cut)


def _source(listed: Listed, model: Clip, extractor: str, recipe: Recipe, contents: Contents) -> dict:
    """All that the scores depend on; their hash guards the kept scores.

    The batch sizes are part of it since a batch's size moves a score's last bits.
    """
    return {
        "scratch_format": _SCRATCH_FORMAT,
        "captions": files.hash_file(listed.path),
        "images": contents.hash(listed.images, listed.found),
        "clip": {
            "model": model.id,
            "weights": model.weights_hash,
            "prompt": model.config.prompt,
            "precision": model.config.precision,
            "scale": model.scale,
            "preprocessing": model.preprocessing,
        },
        "extractor": extractor,
        "mode": "windows" if recipe.windows else "whole",
        "windows": asdict(recipe.windows) if recipe.windows else None,
        "batches": {"images": recipe.work.image_batch, "views": recipe.work.view_batch},
    }


def _named(refused: dict[str, str]) -> str:
    """Names and reasons of images, the first of many."""
    named = [f"{name} ({reason})" for name, reason in list(refused.items())[:_NAMED]]
    return ", ".join(named) + (f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else "")


def _usable(scored: Sequence[Scored], captions: Path) -> list[Scored]:
    kept = [s for s in scored if not s.dropped]
    if not kept:
        reasons = told(Counter(s.dropped for s in scored))
        raise UserError(f"{captions}: no caption is left to curate ({reasons})")
    return kept


def _select(kept: Sequence[Scored], thresholds: Thresholds, recipe: Recipe) -> Selection:
    selection = select(
        [s.scores for s in kept],
        [[(unit.start, unit.end) for unit in s.units] for s in kept],
        thresholds,
        rule=recipe.rule,
        conflicts=recipe.conflicts,
        cut_off=[s.caption.cut_off for s in kept],
    )
    if not selection.neg:
        least = min(float(s.scores.min()) for s in kept)
        raise UserError(
            f"D_neg is empty: no object scores below t1 = {thresholds.t1:g} (the least has {least:.2f}); "
            "raise curate.thresholds.t1 or q1, or take limits by quantiles (curate.thresholds.kind=quantile)"
        )
    return selection


def _record(evidence: Evidence, selection: Selection, thresholds: Thresholds, recipe: Recipe) -> dict:
    """The manifest: what was made from what, by which rules, and what was left out and why."""
    listed, scored = evidence.listed, evidence.scored
    return evidence.source | {
        "sentence_rule": recipe.rule,
        "thresholds": asdict(thresholds),
        "conflicts": {"rule": recipe.conflicts, "pieces": selection.conflicts},
        "counts": manifest.counts(scored, selection)
        | {"images_without_caption": images_without_caption(listed.captions, listed.images)},
        "dropped": {"records": dict(listed.left_out)} | manifest.dropped(scored, selection),
        "bad_images": manifest.bad_images(scored),
        "cut_phrases": evidence.cut_phrases,
        "scores": manifest.distribution(evidence.kept),
    }
