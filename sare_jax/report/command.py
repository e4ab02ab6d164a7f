"""Command line: `python -m sare_jax.report WORKDIR` writes the report of a finished run anew."""

import argparse
from pathlib import Path

from sare_jax import files
from sare_jax.command import called
from sare_jax.locks import writing_into
from sare_jax.records.coco import read_truth
from sare_jax.report import spec_of, table_text, write


def main(argv: list[str] | None = None) -> None:
    """Reads the workdir's `config.json` for labels, annotations and images; the options take precedence."""
    parser = argparse.ArgumentParser(
        prog=called("python -m sare_jax.report"), description="Writes the report of a finished run anew"
    )
    parser.add_argument("workdir", type=Path, help="folder of a run")
    parser.add_argument(
        "--annotations", type=Path, help="COCO annotations of the test images, for the gallery"
    )
    parser.add_argument("--images", type=Path, help="folder of the test images, for the gallery")
    options = parser.parse_args(argv)
    config = _config(options.workdir)
    spec = spec_of(config)
    annotations = options.annotations or _folder(options.workdir, config, "annotations")
    truth = read_truth(annotations) if annotations else None
    images = options.images or _folder(options.workdir, config, "images")
    with writing_into(options.workdir):
        path = write(options.workdir, spec, truth=truth, images_dir=images)
    print(table_text(options.workdir, spec))
    print(f"report: {path}")


def _config(workdir: Path) -> dict:
    path = workdir / "config.json"
    return files.read_json(path) if path.is_file() else {}


def _folder(workdir: Path, config: dict, name: str) -> Path | None:
    """The folder that `data.NAME` in the config names, or None if it does not exist."""
    data = config.get("data") or {}
    root = Path(data["root"]) if data.get("root") else workdir / "data"
    folder = root / (data.get(name) or name)
    return folder if folder.is_dir() else None
