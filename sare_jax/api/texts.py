"""Curated sets from captions, and CHAIR: what needs no model of ours, and no jax."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.curation.kept import kept_beside
from sare_jax.errors import UserError
from sare_jax.evaluation.metrics import chair as chair_metric
from sare_jax.records.coco import Truth, listed_truth, read_truth
from sare_jax.records.curated import Curated, read_curated
from sare_jax.records.texts import read_records
from sare_jax.settings import CurateConfig
from sare_jax.settings.building import build

__all__ = ["Captions", "Sets", "chair", "curate"]

Captions = str | Path | Mapping[Any, str] | Iterable[Mapping[str, Any]]
"""A file; image → caption; or records with `image` or `image_id`, and `caption`."""


@dataclass(frozen=True)
class Sets:
    """D_neg, D_pos and D_sent on disk, and the images that they are about.

    `Sets("curated", "images")` names sets that are there already: of `curate`, of a run's `WORKDIR/curated`,
    or of your own (docs/own_data.md).

    Attributes:
      folder: the curated folder.
      images: folder of the images that its rows name.
    """

    folder: str | Path
    images: str | Path

    def read(self) -> Curated:
        """The sets as arrays.

        Raises:
          UserError: a file is missing or not as it should be; names it.
        """
        return read_curated(Path(self.folder), way_out="docs/own_data.md says what it has to hold")


def curate(
    captions: Captions,
    images: str | Path,
    out: str | Path,
    *,
    truth: str | Path | None = None,
    reserved: Iterable[int] = (),
    **settings: Any,
) -> Sets:
    """Curates D_neg, D_pos and D_sent from a model's own captions.

    Example, with the captions of `Model.caption`:
        >>> named = {path.name: text for path, text in zip(images, texts)}
        >>> sets = sare_jax.curate(
        ...     named, "world/images", "curated", truth="world/annotations",
        ...     clip="local-dir:sare_jax/demo/weights/clip", patch=16,
        ...     thresholds={"kind": "quantile", "q1": 0.2},
        ... )
        >>> len(sets.read().neg) > 0
        True

    Args:
      captions: captions of these images by the model that is to be unlearned.
      images: folder of the images.
      out: folder to write; scores are kept beside it, so that a second call with other limits is quick.
      truth: COCO annotations, for a record of precision and recall; nothing is selected by them, unless
        `thresholds` are of kind `audit`.
      reserved: image ids that must not be curated.
      **settings: the keys of `config.curate`, such as `clip`, `patch` and `thresholds`.

    Raises:
      UserError: a setting is unknown or out of range, or nothing is left at some step; names it.
    """
    from sare_jax.curation.recipe import recipe_of
    from sare_jax.curation.stage import curate as run
    from sare_jax.curation.truth import coco_truth

    for name in ("efuf", "folder"):
        if name in settings:
            raise UserError(f"curate.{name}: names sets that are there already; give Sets(folder, images)")
    annotated = coco_truth(Path(truth)) if truth is not None else None
    recipe = recipe_of(build(CurateConfig, settings, "curate"), annotated)
    path, out = _file_of(captions, Path(out)), Path(out)
    run(path, Path(images), out, recipe, reserved=frozenset(reserved), truth=annotated)
    return Sets(out, images)


def chair(
    captions: Captions, truth: str | Path | Mapping[Any, list[str]], *, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """CHAIR of captions: how many of them, and how many of their objects, are not in the image.

    Example:
        >>> found = sare_jax.chair({1: "A dog and a cat.", 2: "A bench."}, {1: ["dog"], 2: ["bench"]})
        >>> found["chair_s"], round(found["chair_i"], 1)
        (50.0, 33.3)

    Args:
      captions: one an image.
      truth: COCO annotations folder, JSON file of image id → categories, or such a mapping.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples.

    Returns:
      `chair_s`, `chair_i`, `recall` in percent, `mean_words`, `n`, `intervals` and more, as
      `evaluation.metrics.chair.score` says.

    Raises:
      UserError: an image without annotations, two captions of an image, nothing to score.
    """
    known: Truth = listed_truth(truth, "truth") if isinstance(truth, Mapping) else read_truth(truth)
    return chair_metric.score(_records(captions), known, draws=draws, seed=seed)


def _records(captions: Captions) -> list[dict]:
    if isinstance(captions, str | Path):
        return read_records(captions)[0]
    if isinstance(captions, Mapping):
        return [_named(image) | {"caption": text} for image, text in captions.items()]
    return [dict(record) for record in captions]


def _named(image: Any) -> dict[str, Any]:
    return {"image_id": image} if isinstance(image, int) else {"image": str(image)}


def _file_of(captions: Captions, out: Path) -> Path:
    """The captions' file; those at hand are written beside `out`, where its scores are kept."""
    if isinstance(captions, str | Path):
        return Path(captions)
    path = kept_beside(out) / "captions.jsonl"
    files.write_jsonl(path, _records(captions))
    return path
