"""Looks for the files and folders that a command of curation names, before torch or a model is loaded."""

import argparse
from pathlib import Path

from sare_jax.curation import clip_files, histogram
from sare_jax.errors import UserError
from sare_jax.settings import AuditThresholds, CurateConfig


def look(given: argparse.Namespace, settings: CurateConfig) -> None:
    """Looks for all that was given; reads none of it.

    Args:
      given: parsed options of `options.add_data`, and `figure` where the command has it.
      settings: from `options.settings_of`.

    Raises:
      UserError: something is not there, or is a file in place of a folder; names option and path.
    """
    if not given.images.is_dir():
        raise UserError(f"--images: {given.images}: no such image folder")
    for option in ("captions", "labels"):
        path = getattr(given, option)
        if path is not None and not path.is_file():
            raise UserError(f"--{option}: {path}: no such file")
    if given.truth is not None and not given.truth.exists():
        raise UserError(f"--truth: {given.truth}: no such file or folder")
    if given.out.exists() and not given.out.is_dir():
        raise UserError(f"--out: {given.out}: is a file; name a folder")
    labels = settings.thresholds.labels if isinstance(settings.thresholds, AuditThresholds) else ""
    if labels and not Path(labels).is_file():
        raise UserError(f"--thresholds.labels: {labels}: no such file")
    if "figure" in given:
        histogram.check_format(given.figure)
    clip_files.resolve(settings.clip)
