"""What a metric is: a value that says how it is measured, shown, compared and called from the shell."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sare_jax.errors import UserError
from sare_jax.evaluation.columns import Counts, Measure
from sare_jax.evaluation.metrics import METRICS
from sare_jax.extensions import resolve
from sare_jax.records.coco import Truth
from sare_jax.records.texts import Captions
from sare_jax.settings.building import build

__all__ = ["RESERVED", "AtHand", "Chosen", "Metric", "Questions", "chosen", "default_options", "metrics_of"]

RESERVED = ("n", "settings", "bootstrap", "benchmarks", "provenance", "worst")
"""Keys of a row in `metrics/` that no metric may have as its name."""


@dataclass(frozen=True)
class AtHand:
    """What a metric is measured from.

    Attributes:
      captions: records with `image_id` and `caption` (or `text`), and where known `finish_reason`, `tokens`.
      matched: the captions that can be scored, one an image.
      truth: the objects and reference captions of each image, see `records.coco.read_truth`.
      answers: list name → answered requests, for a metric with `questions`.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.
    """

    captions: list[dict]
    matched: Captions
    truth: Truth
    answers: Mapping[str, list[dict]]
    draws: int
    seed: int

    @property
    def has_references(self) -> bool:
        """Whether any of the images has a reference caption."""
        return any(self.truth.references.get(image_id) for image_id in self.matched.image_ids)


@dataclass(frozen=True)
class Questions:
    """Lists of questions that a metric asks of the model besides the describing prompt.

    Attributes:
      lists: from the metric's settings to the names of its lists; none asks nothing.
      build: from the truth, a list's name, the images and the metric's settings to the list's questions.
      requests: from a list's questions, the metric's settings and the text that stands before each question
        (of a prompt attack, else empty) to generation requests, whose answers the metric scores.
      max_new_tokens: the most tokens of an answer.
    """

    lists: Callable[[Any], tuple[str, ...]]
    build: Callable[[Truth, str, Sequence[int], Any], list[dict]]
    requests: Callable[[list[dict], Any, str], list[dict]]
    max_new_tokens: int


def _its_settings(settings: Any) -> Any:
    return None if settings is None else dataclasses.asdict(settings)


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric on captions, or on answers to questions of its own.

    Attributes:
      name: key of its result in `metrics/<run>/<setting>.json`, and of its settings in `evaluate.options`.
      title: its name in tables and lists.
      about: what it measures, in one line for help texts.
      measure: its JSON-able result, with `metric`, numbers, `intervals`, `rule`, `n` and, for paired
        comparisons, `per_image`; or a text that begins with "not measured" and says why.
      command: its command line, called with the arguments after the name; None where it has none.
      settings: dataclass that its settings are built from; None where it has none.
      check: called with the settings before a model is asked; raises `UserError` for what will be lacking.
      depends_on: what its result depends on besides captions, answers and truth, JSON-able.
      questions: question lists that the model answers for it; None where it needs captions alone.
      counts: `metric` entry of a result → what its numbers are made from.
      columns: its columns in the report's first table.
      other: its columns in the report's table of other rules.
      detail: the columns of a table of its own, under `detail_title`.
      price: numbers that show what an erasure cost before any attack.
      prompted: numbers that the report draws under an adversarial prompt.
      compared: numbers whose paired differences the report lists.
      rules: part of the result ("" for the whole) that has a `rule` → heading of that rule in the report.
      counted: what is counted → paths to the counts in a result, which should all agree.
    """

    name: str
    title: str
    about: str
    measure: Callable[[AtHand, Any], dict[str, Any] | str]
    command: Callable[[list[str]], None] | None = None
    settings: type | None = None
    check: Callable[[Any], None] = lambda settings: None
    depends_on: Callable[[Any], Any] = _its_settings
    questions: Questions | None = None
    counts: Mapping[str, Counts] = field(default_factory=dict)
    columns: tuple[Measure, ...] = ()
    other: tuple[Measure, ...] = ()
    detail: tuple[Measure, ...] = ()
    detail_title: str = ""
    price: tuple[Measure, ...] = ()
    prompted: tuple[Measure, ...] = ()
    compared: tuple[Measure, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    counted: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)


class Chosen(NamedTuple):
    """A metric with its settings."""

    metric: Metric
    settings: Any


def metrics_of(names: Iterable[str], where: str = "config.evaluate.metrics") -> tuple[Metric, ...]:
    """The metrics of some names (short, or `module:name`), in the table's order, those from outside last.

    Raises:
      UserError: an unknown name, something that is no `Metric`, or two of one name.
    """
    metrics: dict[str, Metric] = {}
    order = list(METRICS)
    for name in sorted(names, key=lambda name: order.index(name) if name in METRICS else len(order)):
        metric = resolve(name, METRICS, where)
        if not isinstance(metric, Metric):
            raise UserError(f"{where}: {name} is no Metric")
        if metric.name in metrics or metric.name in RESERVED:
            raise UserError(
                f"{where}: the name {metric.name!r} of {name} is taken; each metric needs its own"
            )
        metrics[metric.name] = metric
    return tuple(metrics.values())


def chosen(
    names: Iterable[str], options: Mapping[str, dict], where: str = "config.evaluate"
) -> tuple[Chosen, ...]:
    """Metrics with their settings.

    Args:
      names: short names or `module:name`, as for `metrics_of`.
      options: name of a metric → its settings; what is left out keeps its default. Settings of a shipped
        metric that is not among the names may stand there, too.
      where: dotted key of the config's section, for messages.

    Raises:
      UserError: a name that `metrics_of` refuses, settings of a metric that has none or is not known, or
        values out of range.
    """
    metrics = metrics_of(names, f"{where}.metrics")
    shipped = metrics_of(METRICS)
    with_settings = {metric.name for metric in (*shipped, *metrics) if metric.settings}
    for name in options:
        if name not in with_settings:
            known = ", ".join(sorted(with_settings))
            raise UserError(f"{where}.options.{name}: no metric with settings; those are {known}")
    return tuple(Chosen(metric, _settings(metric, options.get(metric.name, {}), where)) for metric in metrics)


def default_options() -> dict[str, dict]:
    """The settings of the shipped metrics at their defaults, by metric."""
    return {m.name: dataclasses.asdict(m.settings()) for m in metrics_of(METRICS) if m.settings}


def _settings(metric: Metric, values: dict, where: str) -> Any:
    return build(metric.settings, values, f"{where}.options.{metric.name}") if metric.settings else None
