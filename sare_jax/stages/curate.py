"""Stage 2: captions become D_neg, D_pos and D_sent, on the PyTorch side."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from sare_jax import files
from sare_jax.pipeline import Task
from sare_jax.stages.context import Context


def tasks(context: Context) -> Iterator[Task]:
    """Makes the `curated` folder."""
    settings = context.config.curate
    yield Task(
        name="curate",
        inputs={
            "captions": context.digest(context.captions, "caption"),
            "splits": files.hash_file(context.workdir / "splits.json"),
            "settings": dataclasses.asdict(settings),
            "clip": _clip_hash(settings.clip),
        },
        outputs=(context.curated,),
        run=lambda: _curate(context),
    )


def _curate(context: Context) -> None:
    # Imported here: PyTorch takes seconds to load, which a run that is up to date need not wait for.
    from sare_jax.curation.clip import ClipConfig
    from sare_jax.curation.select import PAPER, Quantiles, Thresholds
    from sare_jax.curation.stage import Work, curate
    from sare_jax.curation.truth import Truth, coco_categories_of
    from sare_jax.curation.windows import Windows

    settings = context.config.curate
    if settings.thresholds == "fixed":
        thresholds = Thresholds(settings.t0, settings.t1, settings.t2)
        if (PAPER.t0, PAPER.t1, PAPER.t2) == (settings.t0, settings.t1, settings.t2):
            thresholds = PAPER  # which refuses any CLIP but its own
    else:
        thresholds = Quantiles(settings.q0, settings.q1, settings.q2)
    windows = Windows(settings.patch, settings.window, settings.top_patches)
    manifest = curate(
        context.captions / "captions.jsonl",
        context.images,
        context.curated,
        clip=ClipConfig(settings.clip, settings.clip_pretrained),
        rule=settings.rule,
        thresholds=thresholds,
        windows=windows if settings.mode == "windows" else None,
        conflicts=settings.conflicts,
        reserved={image.id for image in (*context.splits.val, *context.splits.test)},
        truth=Truth(
            {image.id: context.truth.categories(image.id) for image in context.splits.train},
            coco_categories_of,
        ),
        work=Work(image_batch=settings.image_batch),
    )
    print(summary(manifest), flush=True)


def summary(manifest: dict) -> str:
    """What came of the curation, in two lines; the second holds where annotations told the truth."""
    counts, audit = manifest["counts"], manifest["audit"]
    limits = ", ".join(f"{name} = {manifest['thresholds'][name]:.2f}" for name in ("t0", "t1", "t2"))
    lines = [f"curated: neg {counts['neg']}, pos {counts['pos']}, sent {counts['sent']} ({limits})"]
    parts = [
        f"D_{name} precision {_percent(audit[name]['precision'])}, recall {_percent(audit[name]['recall'])}"
        for name in ("neg", "pos")
    ]
    auc = "none" if audit["auc"] is None else f"{audit['auc']:.3f}"
    lines.append(
        f"against the annotations: {'; '.join(parts)}; AUC of the score {auc}; "
        f"{_percent(audit['hallucinated'])} of {audit['judged']} objects are not in their image"
    )
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"


def _clip_hash(name: str) -> str:
    folder = Path(name.removeprefix("local-dir:"))
    return files.digest(folder) if folder.is_dir() else name
