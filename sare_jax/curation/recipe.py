"""Makes curation's models, limits and rules from its settings, for the pipeline's stage and the command."""

from dataclasses import dataclass
from pathlib import Path

from sare_jax.curation.calibrate import Audit
from sare_jax.curation.clip import OPENAI, ClipConfig
from sare_jax.curation.engines import engine_of
from sare_jax.curation.extractor import Extractor
from sare_jax.curation.llm_extractor import llm_extractor
from sare_jax.curation.objects import load_tagger, spacy_extractor
from sare_jax.curation.scored import DEFAULT_WORK, BadImages, Engine, Work, local
from sare_jax.curation.select import PAPER, Conflicts, Rule, Thresholds, by_numbers
from sare_jax.curation.truth import Marks, Truth, read_marks
from sare_jax.curation.windows import PAPER_WINDOWS, Windows
from sare_jax.data.images import MOST_PIXELS
from sare_jax.errors import UserError
from sare_jax.settings import CurateConfig, FixedThresholds, QuantileThresholds

Limits = Thresholds | QuantileThresholds | Audit


@dataclass(frozen=True)
class Recipe:
    """The models, limits and rules of a curation.

    Attributes:
      clip: the image–text model that scores objects.
      windows: geometry of mode `windows`; None scores whole images.
      thresholds: limits of the scores, the quantiles at which they lie, or labelled objects to set them by.
      rule: which captions go into D_sent, see `select`.
      conflicts: what becomes of a piece with a grounded and a hallucinated object, see `select`.
      bad_images: whether an image that cannot be used is left out and named, or ends the run.
      extractor: what finds objects; None is spaCy with the default model.
      work: images and views in a batch, and threads that decode images.
      engine: what runs the batches, see `engines.engine_of`; the arrays do not depend on it.
      max_pixels: width times height of the largest image that is read.
    """

    clip: ClipConfig = OPENAI
    windows: Windows | None = PAPER_WINDOWS
    thresholds: Limits = PAPER
    rule: Rule = "paper"
    conflicts: Conflicts = "keep"
    bad_images: BadImages = "skip"
    extractor: Extractor | None = None
    work: Work = DEFAULT_WORK
    engine: Engine = local
    max_pixels: int = MOST_PIXELS


def recipe_of(
    settings: CurateConfig, truth: Truth | Marks | None = None, max_pixels: int = MOST_PIXELS
) -> Recipe:
    """Loads the models and builds the limits that the settings name.

    Args:
      settings: the section `curate` of a config.
      truth: labelled objects for thresholds of kind `audit`, used where these name no file of labels.
      max_pixels: width times height of the largest image that is read.

    Raises:
      UserError: a tagger, language model or file is missing, or an audit has no labels.
    """
    windows = Windows(settings.patch, settings.window, settings.top_patches)
    return Recipe(
        clip=ClipConfig(
            settings.clip, settings.clip_pretrained, device=settings.device, precision=settings.precision
        ),
        windows=windows if settings.mode == "windows" else None,
        thresholds=_limits(settings, truth),
        rule=settings.rule,
        conflicts=settings.conflicts,
        bad_images=settings.bad_images,
        extractor=llm_extractor(settings.llm, settings.llm_model, key_variable=settings.llm_key_variable)
        if settings.llm
        else spacy_extractor(load_tagger(settings.tagger)),
        work=Work(settings.image_batch, settings.view_batch, settings.workers),
        engine=engine_of(settings.engine),
        max_pixels=max_pixels,
    )


def _limits(settings: CurateConfig, truth: Truth | Marks | None) -> Limits:
    thresholds = settings.thresholds
    if isinstance(thresholds, FixedThresholds):
        return by_numbers(thresholds)
    if isinstance(thresholds, QuantileThresholds):
        return thresholds
    labels = read_marks(Path(thresholds.labels)) if thresholds.labels else truth
    if labels is None:
        raise UserError(
            "curate.thresholds.kind=audit needs labelled objects; name them with --truth, --labels or "
            "thresholds.labels"
        )
    return Audit(labels, thresholds)
