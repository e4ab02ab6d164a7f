"""What is being done at the moment, and how it is said in words."""

import time
from dataclasses import dataclass, field

_SIZES = ("B", "kB", "MB", "GB", "TB")


class Count:
    """How far a piece of work is.

    Attributes:
      name: what is being done.
      total: units of work in the whole job.
      done: those that are finished, by an earlier run too.
      unit: name of one unit; "B" is counted in kB, MB and GB.
      waiting: what the time goes into until the first unit is finished; may be empty.
      note: what is worth knowing of the last unit, such as its losses.
    """

    def __init__(self, name: str, total: int, done: int, unit: str, waiting: str):
        self.name, self.total, self.done, self.unit, self.waiting = name, total, done, unit, waiting
        self.note = ""
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None  # time and count of the first update
        self._last = (self._start, done)

    def add(self, units: int) -> None:
        """Counts finished units."""
        self.done += units
        self._last = (time.monotonic(), self.done)
        if self._first is None:
            self._first = self._last

    @property
    def elapsed(self) -> float:
        """Seconds since the work began in this process."""
        return time.monotonic() - self._start

    @property
    def is_waiting(self) -> bool:
        """Whether the first unit is not finished yet, and it is known why."""
        return self._first is None and bool(self.waiting)

    @property
    def rate(self) -> float | None:
        """Units a second since the first update, which may have waited for a compiler; None if not known."""
        if self._first is None:
            return None
        (since, before), (until, after) = self._first, self._last
        if after > before and until > since:
            return (after - before) / (until - since)
        return None

    @property
    def left(self) -> float | None:
        """Seconds until all is done, if it goes on as it did; None if not known."""
        if self.rate is None:
            return None
        return max(0.0, (self.total - self.done) / self.rate - (time.monotonic() - self._last[0]))

    @property
    def count(self) -> str:
        """Such as `12/37 step`, or `1.2/13.5 GB`."""
        if self.unit != "B":
            return f"{self.done}/{self.total} {self.unit}"
        power = 0
        while self.total >= 1000 ** (power + 1) and power + 1 < len(_SIZES):
            power += 1
        return f"{self.done / 1000**power:.1f}/{self.total / 1000**power:.1f} {_SIZES[power]}"

    @property
    def timing(self) -> str:
        """The time so far, and how long it will take or what it goes into."""
        if self.is_waiting:
            return f"{self.waiting} {clock(self.elapsed)} so far"
        left = "" if self.left is None else f", {clock(self.left)} left"
        return f"{clock(self.elapsed)} so far{left}"


@dataclass
class Work:
    """What a process does at the moment.

    Attributes:
      stage: name of the stage of the road, with its place among the stages; empty outside of the road.
      task: name of the task.
      counts: running counts, the outermost first.
      start: when the work began, by `time.monotonic`.
    """

    stage: str = ""
    task: str = ""
    counts: list[Count] = field(default_factory=list)
    start: float = 0.0

    def line(self) -> str:
        """All of it in one line; empty where nothing is being done."""
        parts = [f"{count.name} {count.count}" for count in self.counts]
        if self.counts:
            last = self.counts[-1]
            parts[-1] += f", {last.timing}" + (f", {last.note}" if last.note else "")
        if self.task and not self.counts:
            parts = [f"{clock(time.monotonic() - self.start)} so far"]
        where = [f"[{self.stage}]"] if self.stage else []
        return " ".join([*where, *([f"{self.task}:"] if self.task else []), " › ".join(parts)]).rstrip()


def clock(seconds: float) -> str:
    """Seconds as `0:07`, `12:30` or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
