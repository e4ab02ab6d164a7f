"""Stage 2: captions become D_neg, D_pos and D_sent, on the PyTorch side."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.pipeline import Task
from sare_jax.settings import CurateConfig
from sare_jax.stages.context import Context

if TYPE_CHECKING:
    from sare_jax.curation.calibrate import Audit
    from sare_jax.curation.select import Quantiles, Thresholds
    from sare_jax.curation.truth import Truth

EFUF_FILES = ("pos_neg.json", "sentences.json")


def tasks(context: Context) -> Iterator[Task]:
    """Makes the `curated` folder."""
    settings = context.config.curate
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
    labels = settings.audit_labels
    yield Task(
        name="curate",
        inputs={
            "captions": context.digest(context.captions, "caption"),
            "splits": splits,
            "settings": dataclasses.asdict(settings),
            "clip": _clip_hash(settings.clip),
            "labels": _hash(Path(labels), "config.curate.audit_labels") if labels else "",
        },
        outputs=(context.curated,),
        run=lambda: _curate(context),
    )


def _take_efuf(context: Context, folder: Path) -> None:
    from sare_jax.curation.efuf_files import read_efuf
    from sare_jax.records.curated import write_curated

    settings = context.config.curate
    thresholds = _fixed(settings, "EFUF's files hold scores that were made elsewhere")
    training = {image.file for image in context.splits.train}
    curated = read_efuf(folder, thresholds=thresholds, rule=settings.rule, training=training)
    write_curated(context.curated, curated)
    print(summary(curated.manifest), flush=True)


def _curate(context: Context) -> None:
    # Imported here: PyTorch takes seconds to load, which a run that is up to date need not wait for.
    from sare_jax.curation.clip import ClipConfig
    from sare_jax.curation.engines import engine_of
    from sare_jax.curation.llm_extractor import llm_extractor
    from sare_jax.curation.objects import load_tagger, spacy_extractor
    from sare_jax.curation.stage import Work, curate
    from sare_jax.curation.truth import Truth, coco_categories_of
    from sare_jax.curation.windows import Windows

    settings = context.config.curate
    truth = Truth(
        {image.id: context.truth.categories(image.id) for image in context.splits.train}, coco_categories_of
    )
    windows = Windows(settings.patch, settings.window, settings.top_patches)
    manifest = curate(
        context.captions / "captions.jsonl",
        context.images,
        context.curated,
        clip=ClipConfig(settings.clip, settings.clip_pretrained, precision=settings.precision),
        rule=settings.rule,
        thresholds=_thresholds(settings, truth),
        windows=windows if settings.mode == "windows" else None,
        conflicts=settings.conflicts,
        extractor=llm_extractor(settings.llm, settings.llm_model)
        if settings.llm
        else spacy_extractor(load_tagger(settings.tagger)),
        reserved=_reserved(context),
        truth=truth,
        work=Work(image_batch=settings.image_batch),
        engine=engine_of(settings.engine),
    )
    print(summary(manifest), flush=True)


def _thresholds(settings: CurateConfig, truth: "Truth") -> "Thresholds | Quantiles | Audit":
    from sare_jax.curation.calibrate import Audit
    from sare_jax.curation.select import Quantiles
    from sare_jax.curation.truth import read_marks

    if settings.thresholds == "quantile":
        return Quantiles(settings.q0, settings.q1, settings.q2)
    if settings.thresholds == "audit":
        labels = read_marks(Path(settings.audit_labels)) if settings.audit_labels else truth
        return Audit(labels, settings.p0, settings.p1, settings.p2, settings.audit_objects)
    return _fixed(settings, "")


def _fixed(settings: CurateConfig, why: str) -> "Thresholds":
    """Thresholds that the settings hold.

    Raises:
      UserError: they are to be chosen by scores, which is not possible for the reason `why`.
    """
    from sare_jax.curation.select import PAPER, Thresholds

    if settings.thresholds != "fixed":
        raise UserError(f"config.curate.thresholds: must be fixed: {why}; set t0, t1 and t2")
    if (PAPER.t0, PAPER.t1, PAPER.t2) == (settings.t0, settings.t1, settings.t2):
        return PAPER  # which refuses any CLIP but its own
    return Thresholds(settings.t0, settings.t1, settings.t2)


def _reserved(context: Context) -> set[int]:
    return {image.id for image in (*context.splits.val, *context.splits.test)}


def summary(manifest: dict) -> str:
    """What came of the curation, in two lines; the second holds where annotations told the truth."""
    counts, audit = manifest["counts"], manifest.get("audit")
    limits = ", ".join(f"{name} = {manifest['thresholds'][name]:.2f}" for name in ("t0", "t1", "t2"))
    lines = [f"curated: neg {counts['neg']}, pos {counts['pos']}, sent {counts['sent']} ({limits})"]
    if audit is None:
        return lines[0]
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


def _hash(path: Path, key: str) -> str:
    """Content hash of a file that a setting names.

    Raises:
      UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{key}: {path}: no such file")
    return files.hash_file(path)


def _clip_hash(name: str) -> str:
    folder = Path(name.removeprefix("local-dir:"))
    return files.digest(folder) if folder.is_dir() else name
