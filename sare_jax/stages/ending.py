"""What a run says at its end: the result table, the report, what each stage took, and what to do next."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sare_jax import hosts, progress
from sare_jax.config import STAGES
from sare_jax.errors import UserError
from sare_jax.pipeline import Took
from sare_jax.report import table_text
from sare_jax.settings.road import Config
from sare_jax.stages.report import spec_for

_BESIDE = ("export",)  # stages that nothing later waits for


def say(config: Config, workdir: Path, took: Sequence[Took]) -> None:
    """Prints the end of a run, on the first host; where progress is shown as `json`, the event `result`.

    Args:
      config: settings of the run.
      workdir: its folder.
      took: what each stage took.
    """
    if not hosts.is_first():
        return
    page = workdir / "report.html"
    table = _table(config, workdir) if page.exists() else ""
    report = str(page) if page.exists() else None
    parts = [table, "\n".join(_seconds(took)), f"report: {report}" if report else "", _next(config, page)]
    progress.result(
        "\n".join(part for part in parts if part),
        table=table.splitlines(),
        report=report,
        data=str(page.with_suffix(".json")) if report else None,
        stages=[dataclasses.asdict(entry) for entry in took],
    )


def _table(config: Config, workdir: Path) -> str:
    """The result table; why there is none, where metrics of earlier stages cannot be read."""
    try:
        return table_text(workdir, spec_for(config))
    except UserError as error:
        return f"no table: {error}\n"


def _seconds(took: Sequence[Took]) -> list[str]:
    """A line a stage that did something: its tasks, seconds by the clock and of all processor cores."""
    busy = [entry for entry in took if entry.tasks]
    if not busy:
        return ["every stage was up to date"]
    total = Took("total", sum(e.tasks for e in busy), sum(e.wall for e in busy), sum(e.cpu for e in busy))
    rows = [*busy, total] if len(busy) > 1 else busy
    return [
        f"{'stage':<10} {'tasks':>5} {'seconds':>9} {'CPU seconds':>12}",
        *(f"{e.stage:<10} {e.tasks:>5} {e.wall:>9.1f} {e.cpu:>12.1f}" for e in rows),
    ]


def _next(config: Config, page: Path) -> str:
    last = max(map(STAGES.index, config.stages))
    if later := [name for name in STAGES[last + 1 :] if name not in _BESIDE]:
        return f"next: the same command with --config.stages={','.join(later)}"
    return f"next: open {page}; for a run beside these, the same command with --run mine=robust,rho=0.1"
