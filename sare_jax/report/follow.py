"""The report of a run that goes on, written anew whenever a result was added; browsers reload it."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.records.coco import Truth
from sare_jax.report import page
from sare_jax.report.read import read
from sare_jax.report.spec import ReportSpec
from sare_jax.report.writing import gather

NAME = "live.html"
"""Beside the report and not in its place, which is the run's to write."""
_READ = ("metrics", "logs", "answers", "attacks", "masking", "probes", "curated/manifest.json")


def _print(line: str) -> None:
    print(line, flush=True)


@dataclasses.dataclass(frozen=True)
class Source:
    """What a live report is made from besides the workdir's results; as for `writing.write`."""

    spec: ReportSpec
    truth: Truth | None
    images_dir: Path | None


def follow(
    workdir: Path,
    source: Callable[[], Source],
    every: float,
    *,
    wait: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = _print,
) -> None:
    """Writes `live.html` whenever the results changed, until it is interrupted.

    The file is replaced as a whole, so a browser never sees half of it. A result that cannot be read, as one
    that is being written, leaves the last page and is tried again.

    Args:
      workdir: folder of a run.
      source: reads settings and annotations; asked anew for each page, since a run may still write them.
      every: seconds between two looks, and between two loads in the browser.
      wait: sleeps for so many seconds.
      say: takes a line for each page, and each reason why there is none.

    Raises:
      UserError: no such folder.
      KeyboardInterrupt: Ctrl-C, the only end.
    """
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such folder; give the workdir of a run")
    seen: dict[str, tuple[int, int]] | None = None
    told = ""
    while True:
        now = stamps(workdir)
        if now != seen:
            try:
                line = _write(workdir, source(), every)
                seen = now
            except UserError as error:
                line = f"not yet: {error}"
            if line != told:
                say(line)
            told = line
        wait(every)


def stamps(workdir: Path) -> dict[str, tuple[int, int]]:
    """Path of each file that the report may be made from → time of its last change in ns, and its size."""
    found = {}
    for path in [*(p for name in _READ for p in _below(workdir / name)), *workdir.glob("*.json")]:
        try:
            status = path.stat()
        except FileNotFoundError:  # a temporary name, renamed meanwhile
            continue
        found[path.relative_to(workdir).as_posix()] = (status.st_mtime_ns, status.st_size)
    return found


def _below(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*.json*") if p.is_file()) if path.is_dir() else [path]


def _write(workdir: Path, source: Source, every: float) -> str:
    inputs = read(workdir, source.spec)
    content = gather(inputs, source.spec, source.truth, source.images_dir)
    content["refresh"] = max(1, round(every))
    files.write_text(workdir / NAME, page.render(content, source.spec))
    return f"{time.strftime('%H:%M:%S')} {workdir / NAME}: {len(inputs.metrics)} results"
