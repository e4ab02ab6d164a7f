"""D_neg, D_pos and D_sent that somebody made elsewhere, instead of stage 2's own (docs/own_data.md)."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax import files
from sare_jax.data.images import require_images
from sare_jax.errors import UserError
from sare_jax.pipeline import Task
from sare_jax.records.curated import Curated, Rows, read_curated, write_curated
from sare_jax.records.splits import Splits
from sare_jax.schema import checked
from sare_jax.stages.context import Context

FILES = ("rows.npz", "neg.npz", "pos.npz", "sent.npz", "manifest.json")
_KEY = "config.curate.folder"
_WAY_OUT = "docs/own_data.md says what it has to hold"
_NAMED = 20  # images in a message


@dataclass(frozen=True)
class _Scores:
    quantiles: list[float]
    objects: list[float]
    captions: list[float]


@dataclass(frozen=True)
class _Told:
    """What a report shows of a manifest, where it has it."""

    counts: dict[str, int] = field(default_factory=dict)
    thresholds: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: _Scores | None = None
    audit: dict[str, Any] = field(default_factory=dict)


def task(context: Context) -> Task:
    """The task that fills `curated/` from a folder.

    Args:
      context: settings and paths; `config.curate.folder` names the folder.

    Raises:
      UserError: the folder or one of its files does not exist.
    """
    folder = Path(context.config.curate.folder)
    require(folder)
    given = {name: files.hash_file(folder / name) for name in FILES}
    return Task(
        name="curate",
        inputs={"folder": given, "splits": files.hash_file(context.workdir / "splits.json")},
        outputs=(context.curated,),
        run=lambda: _take(context, folder, given),
    )


def require(folder: Path) -> None:
    """Looks for the five files.

    Raises:
      UserError: the folder or one of its files does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{_KEY}: {folder}: no such folder")
    for name in FILES:
        if not (folder / name).is_file():
            raise UserError(f"{_KEY}: {folder / name}: no such file; {_WAY_OUT}")


def _take(context: Context, folder: Path, given: dict[str, str]) -> None:
    curated = checked_sets(folder, context.images, context.splits, context.config.data.max_pixels)
    sizes = {name: len(getattr(curated, name)) for name in ("neg", "pos", "sent")}
    counts = curated.manifest.get("counts", {}) | sizes
    manifest = curated.manifest | {"counts": counts, "given": given}
    write_curated(context.curated, dataclasses.replace(curated, manifest=manifest))
    print(
        "D_neg {neg}, D_pos {pos}, D_sent {sent}".format(**sizes)
        + f" on {len(curated.rows)} captions, from {folder}",
        flush=True,
    )


def checked_sets(folder: Path, images: Path, splits: Splits, max_pixels: int) -> Curated:
    """Reads sets that were made elsewhere.

    Args:
      folder: holds the five files.
      images: folder of the images that the rows name.
      splits: which images are set aside.
      max_pixels: width times height of the largest image that is read.

    Raises:
      UserError: a file is not as docs/own_data.md has it, D_neg is empty, a score is no finite number, or an
        image is set aside for validation and test or is not in the image folder; names files and images.
    """
    curated = read_curated(folder, way_out=_WAY_OUT)
    if not len(curated.neg):
        raise UserError(f"{folder / 'neg.npz'}: holds no unit; there is nothing to unlearn")
    for name in ("neg", "pos", "sent"):
        table = getattr(curated, name)
        for column in dataclasses.fields(table):
            values = np.asarray(getattr(table, column.name))
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise UserError(f"{folder / name}.npz: {column.name} holds NaN or infinity; {_WAY_OUT}")
    _check_told(curated.manifest, f"{folder / 'manifest.json'}")
    _refuse_reserved(curated.rows, splits, folder)
    require_images(images, curated.rows.image.tolist(), max_pixels)
    return curated


def _check_told(manifest: dict, where: str) -> None:
    scores = checked(manifest, _Told, where).scores
    if scores and not len(scores.quantiles) == len(scores.objects) == len(scores.captions):
        raise UserError(f"{where}: 'scores' has lists of different lengths; leave it out")


def _refuse_reserved(rows: Rows, splits: Splits, folder: Path) -> None:
    """Refuses images that are set aside, by their name and by their number."""
    aside = (*splits.val, *splits.test)
    names, ids = {image.file for image in aside}, {image.id for image in aside}
    pairs = zip(rows.image.tolist(), rows.image_id.tolist(), strict=True)
    forbidden = sorted({image for image, image_id in pairs if Path(image).name in names or image_id in ids})
    if forbidden:
        more = f" and {len(forbidden) - _NAMED} more" if len(forbidden) > _NAMED else ""
        raise UserError(
            f"{folder / 'rows.npz'}: by image or image_id, {len(forbidden)} images are reserved for "
            f"validation and test: {', '.join(forbidden[:_NAMED])}{more}; leave their rows out"
        )
