"""What is known of a program of a run before it is compiled, and numbers that its memory depends on."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sare_jax.config import split_names
from sare_jax.plan.compiled import Program
from sare_jax.plan.sizer import MOST_ROWS
from sare_jax.rounding import round_up
from sare_jax.settings.optim import OptimConfig
from sare_jax.settings.road import Config
from sare_jax.settings.samples import ChoiceSamples

# What is counted where data alone would tell: EFUF's numbers of images, and negatives of that order.
IMAGES, NEGATIVES, TEST_IMAGES = 80_000, 10_000, 1_600

Times = Mapping[str, float]
"""Stage → how often it runs a program."""


@dataclass(frozen=True)
class Scale:
    """A number that a program's memory grows with.

    Attributes:
      key: the setting that it follows from; empty where none does.
      value: what it is, or where a search for it begins.
      candidates: other values, in the order of the memory that they take, `value` among them.
      make: lowers the program for one of them.
      what: what it is called, for people.
      is_auto: whether the setting leaves it to memory.
    """

    key: str
    value: int
    candidates: Sequence[int]
    make: Callable[[int], Program]
    what: str = "batch"
    is_auto: bool = False


@dataclass(frozen=True)
class Planned:
    """A program of a run.

    Attributes:
      name: what one run of it does, in a word or two.
      about: a value of `scale` → the same at length.
      scale: what its memory grows with: rows of a batch, or parts that it is cut into.
      turns: steps of its decoding loop.
      times: a value of `scale` → how often each stage runs it.
      beams: the number of beams, where it searches with beams or could.
      way_out: what to set where it does not fit.
    """

    name: str
    about: Callable[[int], str]
    scale: Scale
    turns: int
    times: Callable[[int], Times]
    beams: Callable[[int], Scale] | None = None
    way_out: str = ""


def attacked_runs(config: Config, name: str) -> int:
    """How many runs, the base model among them, an attack is made on."""
    return len(split_names(config.attacks[name].runs)) or 1 + len(config.runs)


def num_steps(run: OptimConfig) -> int:
    """Optimizer steps of a run: an epoch has all negatives, or all captions where they are packed."""
    size = float(IMAGES if run.packing == "packed" else NEGATIVES)
    if isinstance(run.samples, ChoiceSamples) and run.samples.answers_weight:
        size *= 1 + run.samples.answers
    return run.steps or math.ceil(run.epochs * size / run.batch_size)


def is_matched(config: Config) -> bool:
    """Whether the report compares two runs at equal erasure."""
    report = config.report
    both = report.baseline in config.runs and report.ours in config.runs
    return "report" in config.stages and report.matched and both


def batches(requests: Times, rows: int) -> Times:
    """How often each stage runs a batch of so many rows, for so many requests."""
    return {stage: -(-number // rows) for stage, number in requests.items()}


def row_counts(multiple: int, value: int) -> range:
    """Numbers of rows that a search takes into account, up to `MOST_ROWS` or the value itself."""
    return range(multiple, round_up(max(MOST_ROWS, value), multiple) + 1, multiple)
