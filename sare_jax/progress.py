"""Progress with an ETA, on a terminal and in a log."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def bar(total: int, name: str, *, done: int = 0, unit: str = "it") -> tqdm:
    """Opens a progress bar that shows rate and ETA.

    Args:
      total: the number of units of work in the whole job.
      name: what is being done, shown at the left.
      done: units that an earlier, interrupted run had finished already.
      unit: name of one unit; "B" is counted in kB, MB and GB.

    Returns:
      A `tqdm` bar: call `update(n)`, `set_postfix_str(text)` and `close()`, or use it as a context manager.
      Where standard error is no terminal, it writes a line at most every ten seconds.
    """
    interactive = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=name,
        unit=unit,
        unit_scale=unit == "B",
        dynamic_ncols=interactive,
        ncols=None if interactive else 100,
        mininterval=0.2 if interactive else 10.0,
        file=sys.stderr,
    )


def track(items: Iterable[T], name: str, *, total: int, done: int = 0, unit: str = "it") -> Iterator[T]:
    """Yields `items`, showing a progress bar; arguments as in `bar`."""
    with bar(total, name, done=done, unit=unit) as progress:
        for item in items:
            yield item
            progress.update(1)
