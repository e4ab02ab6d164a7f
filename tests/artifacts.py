"""What a workdir holds, to see that a run changed nothing in it."""

from pathlib import Path

from sare_jax import files


def artifacts(workdir: Path) -> dict[str, str]:
    """File → SHA-256 of its bytes; without the memo of image hashes, which takes young files a run later."""
    return {
        path.relative_to(workdir).as_posix(): files.hash_file(path)
        for path in workdir.rglob("*")
        if path.is_file() and path.name != ".image_contents.json"
    }
