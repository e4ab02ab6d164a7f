"""Where a curation keeps what it need not do again: beside its output, in one hidden folder."""

from pathlib import Path


def kept_beside(out: Path) -> Path:
    """The folder `.NAME_work` beside a curated folder; it may be removed, and is then made anew.

    It holds the objects of the captions (`objects/`), their scores (`scores/`), hashes of the images
    (`images.json`) and, where captions came from elsewhere than a file, these (`captions.jsonl`).
    """
    return out.with_name(f".{out.name}_work")
