"""Stage 2: makes D_neg, D_pos and D_sent from captions, with PyTorch and without JAX."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.pipeline import Task
from sare_jax.settings import AuditThresholds, FixedThresholds
from sare_jax.shipped import located
from sare_jax.stages import own_sets
from sare_jax.stages.context import Context

EFUF_FILES = ("pos_neg.json", "sentences.json")


def tasks(context: Context) -> Iterator[Task]:
    """Makes the `curated` folder."""
    settings = context.config.curate
    if settings.folder:
        yield own_sets.task(context)
        return
    splits = files.hash_file(context.workdir / "splits.json")
    if settings.efuf:
        folder = Path(settings.efuf)
        yield Task(
            name="curate",
            inputs={
                "efuf": {name: _hash(folder / name, "config.curate.efuf") for name in EFUF_FILES},
                "splits": splits,
                "settings": dataclasses.asdict(settings),
            },
            outputs=(context.curated,),
            run=lambda: _take_efuf(context, folder),
        )
        return
    yield Task(
        name="curate",
        inputs={
            "captions": context.digest(context.captions, "caption"),
            "max_pixels": context.config.data.max_pixels,
            "splits": splits,
            "settings": dataclasses.asdict(settings),
            "images": context.images_hash(context.training_images),
            "clip": _clip_hash(settings.clip),
            "labels": _labels_hash(context),
        },
        outputs=(context.curated,),
        run=lambda: _curate(context),
    )


def _take_efuf(context: Context, folder: Path) -> None:
    from sare_jax.curation.efuf_files import read_efuf
    from sare_jax.curation.select import by_numbers
    from sare_jax.curation.summary import summary
    from sare_jax.records.curated import write_curated

    settings = context.config.curate
    assert isinstance(settings.thresholds, FixedThresholds)  # or the settings were refused
    training = {image.file for image in context.splits.train}
    limits = by_numbers(settings.thresholds)
    curated = read_efuf(folder, thresholds=limits, rule=settings.rule, training=training)
    write_curated(context.curated, curated)
    print(summary(curated.manifest), flush=True)


def _curate(context: Context) -> None:
    # Imported here: PyTorch takes seconds to load, which a run that is up to date need not wait for.
    from sare_jax.curation.recipe import recipe_of
    from sare_jax.curation.stage import curate
    from sare_jax.curation.summary import summary
    from sare_jax.curation.truth import Truth, coco_categories_of

    training = context.splits.train
    truth = Truth({image.id: context.truth.categories(image.id) for image in training}, coco_categories_of)
    manifest = curate(
        context.captions / "captions.jsonl",
        context.images,
        context.curated,
        recipe_of(context.config.curate, truth, context.config.data.max_pixels),
        reserved={image.id for image in (*context.splits.val, *context.splits.test)},
        truth=truth,
        contents=context.contents,
    )
    print(summary(manifest), flush=True)


def _labels_hash(context: Context) -> str:
    """Content hash of the labels that an audit reads; empty where none are read from a file."""
    thresholds = context.config.curate.thresholds
    if not isinstance(thresholds, AuditThresholds) or not thresholds.labels:
        return ""
    return _hash(Path(thresholds.labels), "config.curate.thresholds.labels")


def _hash(path: Path, key: str) -> str:
    """Content hash of a file that a setting names.

    Raises:
      UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{key}: {path}: no such file")
    return files.hash_file(path)


def _clip_hash(name: str) -> str:
    """Content hash of a local CLIP folder; the name itself for a published model."""
    folder = located(name.removeprefix("local-dir:"))
    return files.digest(folder) if folder.is_dir() else name
