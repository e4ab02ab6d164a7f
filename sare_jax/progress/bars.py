"""Counting work."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from sare_jax.progress import shown
from sare_jax.progress.work import Count

T = TypeVar("T")
COMPILING = "compiling (first step)"
"""What the time goes into until the first unit of something that a compiler makes first."""


class Bar:
    """A count of work that is shown while it is open; a context manager that closes it."""

    def __init__(self, count: Count):
        self._count = count
        shown.open_count(count)

    def update(self, units: int) -> None:
        """Counts finished units."""
        self._count.add(units)

    def note(self, text: str) -> None:
        """Shows a text, such as the last losses, beside the count."""
        self._count.note = text

    def write(self, text: str) -> None:
        """Prints a line that stays."""
        print(text, flush=True)

    def close(self) -> None:
        """Stops showing the count."""
        shown.close_count(self._count)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bar(total: int, name: str, *, done: int = 0, unit: str = "it", waiting: str = "") -> Bar:
    """Counts work, with its rate and the time that is left.

    Args:
      total: the number of units of work in the whole job.
      name: what is being done.
      done: units that an earlier, interrupted run had finished already.
      unit: name of one unit; "B" is counted in kB, MB and GB.
      waiting: what the time goes into until the first unit is finished, such as `COMPILING`.
    """
    return Bar(Count(name, total, done, unit, waiting))


def track(
    items: Iterable[T], name: str, *, total: int, done: int = 0, unit: str = "it", waiting: str = ""
) -> Iterator[T]:
    """Yields `items` and counts them; arguments as in `bar`."""
    with bar(total, name, done=done, unit=unit, waiting=waiting) as progress:
        for item in items:
            yield item
            progress.update(1)
