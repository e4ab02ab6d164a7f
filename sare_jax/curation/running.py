"""What the commands of curation do once their inputs are there; imports torch and spaCy."""

import argparse

from sare_jax.curation import calibrate, histogram, options
from sare_jax.curation.calibrate import Audit
from sare_jax.curation.clip import Clip
from sare_jax.curation.recipe import Recipe, recipe_of
from sare_jax.curation.select import PAPER
from sare_jax.curation.stage import Evidence, curate, gather, look
from sare_jax.curation.summary import summary
from sare_jax.curation.truth import Marks, Truth
from sare_jax.errors import UserError
from sare_jax.locks import writing_into
from sare_jax.settings import CurateConfig


def sets(given: argparse.Namespace, settings: CurateConfig) -> None:
    """Curates, and prints what came of it."""
    truth = options.truth_of(given)
    recipe = recipe_of(settings, truth, given.max_pixels)
    with writing_into(given.out):
        manifest = curate(options.captions_of(given), given.images, given.out, recipe, truth=truth)
    print(summary(manifest))


def thresholds(given: argparse.Namespace, settings: CurateConfig) -> None:
    """Chooses thresholds by labelled objects, and prints them as options."""
    recipe = recipe_of(settings, options.truth_of(given), given.max_pixels)
    assert isinstance(recipe.thresholds, Audit)
    evidence, clip_id = _gather(given, recipe, recipe.thresholds.truth)
    limits = recipe.thresholds.thresholds(evidence.kept, clip_id)
    print(f"{limits.chosen['how']}, CLIP model {clip_id}")
    print("\n".join(calibrate.told(limits)))
    print(" ".join(f"--thresholds.{name}={getattr(limits, name):.4f}" for name in ("t0", "t1", "t2")))


def figure(given: argparse.Namespace, settings: CurateConfig) -> None:
    """Draws the histogram of scores, and prints its numbers."""
    truth = options.truth_of(given)
    if truth is None:
        raise UserError("--truth or --labels is missing; a histogram needs to know what is in the images")
    recipe = recipe_of(settings, truth, given.max_pixels)
    evidence, clip_id = _gather(given, recipe, truth)
    scores, present = histogram.judged_scores(evidence.kept, truth)
    limits = calibrate.chosen(recipe.thresholds, evidence.kept, clip_id)
    lines = {"T1": limits.t1, "T0": limits.t0} if limits is not PAPER or clip_id == PAPER.model else {}
    histogram.draw(scores, present, given.figure, model=clip_id, limits=lines)
    print(histogram.described(scores, present))
    print(f"figure in {given.figure}")


def _gather(given: argparse.Namespace, recipe: Recipe, truth: Truth | Marks) -> tuple[Evidence, str]:
    """Scores the captions, or takes the scores that are kept; and the id of the CLIP model."""
    captions = options.captions_of(given)
    listed = look(captions, given.images, bad_images=recipe.bad_images, truth=truth)
    model = Clip(recipe.clip)
    with writing_into(given.out):
        return gather(listed, given.out, model, recipe), model.id
