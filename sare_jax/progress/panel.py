"""Progress on a terminal: one panel, redrawn in place, which leaves nothing behind."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from absl import logging
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sare_jax.progress.work import Count, Work, clock

_A_SECOND = 4  # redrawings
_DEEPEST = 4  # nested counts that are shown
_BAR_WIDTH = 24


@contextmanager
def panel(work: Work) -> Iterator[None]:
    """Shows what is being done at the bottom of the terminal; what is printed meanwhile stands above."""
    begin = time.monotonic()
    live = Live(
        console=Console(stderr=True),
        get_renderable=lambda: drawn(work, time.monotonic() - begin),
        refresh_per_second=_A_SECOND,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else what is printed belongs into a file or a pipe
        vertical_overflow="crop",
    )
    handler = logging.get_absl_handler().python_handler
    with live:
        stream, handler.stream = handler.stream, sys.stderr  # which the panel looks after now
        try:
            yield
        finally:
            handler.stream = stream


def drawn(work: Work, elapsed: float) -> RenderableType:
    """The panel: stage and task above, a line for each count, then the note of the innermost."""
    counts = list(work.counts)[-_DEEPEST:]
    rows: list[RenderableType] = [_row(count) for count in counts]
    if not rows:
        rows = [Text("working", style="dim")]
    if counts and counts[-1].note:
        rows.append(Text(counts[-1].note, style="dim", no_wrap=True, overflow="ellipsis"))
    title = " · ".join(part for part in (work.stage, work.task) if part)
    return Panel(
        Group(*rows),
        title=Text(title, overflow="ellipsis", no_wrap=True) if title else None,
        title_align="left",
        subtitle=clock(elapsed),
        subtitle_align="right",
        border_style="dim",
    )


def _row(count: Count) -> Table:
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    row.add_column(width=_BAR_WIDTH)
    row.add_column(no_wrap=True, justify="right")
    row.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(total=max(count.total, 1), completed=count.done, width=_BAR_WIDTH)
    row.add_row(Text(count.name), bar, Text(count.count), Text(count.timing))
    return row
