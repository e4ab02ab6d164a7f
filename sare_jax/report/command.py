"""Command line: the report of a run anew, of a run that goes on, or two reports side by side."""

import argparse
from pathlib import Path

from sare_jax.command import called
from sare_jax.errors import UserError
from sare_jax.locks import writing_into
from sare_jax.records.coco import read_truth
from sare_jax.report import spec_of, table_text, write
from sare_jax.report.follow import Source, follow
from sare_jax.report.side_by_side import side_by_side
from sare_jax.settings.saved import read_saved

EVERY = 10.0
"""Seconds between two looks at a run that goes on."""


def main(argv: list[str] | None = None) -> None:
    """Reads the workdir's `config.json` for labels, truth and images; the options take precedence."""
    parser = argparse.ArgumentParser(
        prog=called("python -m sare_jax.report"),
        description="Writes the report of a finished run anew, or two reports side by side",
    )
    parser.add_argument("workdir", type=Path, help="folder of a run")
    parser.add_argument("other", type=Path, nargs="?", help="folder of another run, to be compared with it")
    parser.add_argument(
        "--truth", type=Path, help="COCO annotations of the test images, for the gallery's captions"
    )
    parser.add_argument("--images", type=Path, help="folder of the test images, for the gallery")
    parser.add_argument(
        "--out", type=Path, default=Path("compared.html"), help="page of a comparison (%(default)s)"
    )
    parser.add_argument(
        "--follow", action="store_true", help="write WORKDIR/live.html while the run goes on, until Ctrl-C"
    )
    parser.add_argument(
        "--every", type=float, default=EVERY, help="seconds between two looks of --follow (%(default)g)"
    )
    options = parser.parse_args(argv)
    if options.follow and options.other:
        raise UserError("--follow: follows one workdir; give one, or leave --follow out")
    if options.every <= 0:
        raise UserError(f"--every: should be above 0 seconds, got {options.every:g}")
    if options.follow:
        follow(options.workdir, lambda: _source(options), options.every)
    elif options.other:
        sides = [(folder, spec_of(_config(folder))) for folder in (options.workdir, options.other)]
        print(f"comparison: {side_by_side(sides[0], sides[1], options.out)}")
    else:
        source = _source(options)
        with writing_into(options.workdir):
            path = write(options.workdir, source.spec, truth=source.truth, images_dir=source.images_dir)
        print(table_text(options.workdir, source.spec))
        print(f"report: {path}")


def _source(options: argparse.Namespace) -> Source:
    config = _config(options.workdir)
    truth = options.truth or _folder(options.workdir, config, "annotations")
    return Source(
        spec_of(config),
        read_truth(truth) if truth else None,
        options.images or _folder(options.workdir, config, "images"),
    )


def _config(workdir: Path) -> dict:
    path = workdir / "config.json"
    return read_saved(path) if path.is_file() else {}


def _folder(workdir: Path, config: dict, name: str) -> Path | None:
    """The folder that `data.NAME` in the config names, or None if it does not exist."""
    data = config.get("data") or {}
    root = Path(data["root"]) if data.get("root") else workdir / "data"
    folder = root / (data.get(name) or name)
    return folder if folder.is_dir() else None
