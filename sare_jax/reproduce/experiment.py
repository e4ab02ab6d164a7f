"""What a table or figure of the paper takes, and what is made of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sare_jax.config import to_dict
from sare_jax.errors import UserError
from sare_jax.report.figures import FigureGroup
from sare_jax.report.gallery import Exhibit
from sare_jax.report.read import Inputs, read
from sare_jax.report.spec import ReportSpec, spec_of
from sare_jax.report.tables import Table
from sare_jax.stages.context import Context

Raw = dict[str, Any]
"""A config file's values: nested dictionaries."""


@dataclass(frozen=True)
class Made:
    """What the stages made.

    Attributes:
      context: the stages' own view: settings, workdir, truth, images, the base model.
      inputs: metrics, logs and answers of the workdir.
      spec: the runs and settings of the config.
    """

    context: Context
    inputs: Inputs
    spec: ReportSpec


@dataclass(frozen=True)
class Page:
    """What an experiment shows.

    Attributes:
      tables: in reading order.
      figures: drawings, which are files of their own too.
      exhibits: images with captions.
    """

    tables: tuple[Table, ...] = ()
    figures: FigureGroup | None = None
    exhibits: tuple[Exhibit, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A table or figure.

    Attributes:
      title: what it shows, in one line.
      changed: gives the settings of its runs and attacks from those of a config file.
      page: makes tables and drawings from what the stages made.
      repeated: whether its runs may be repeated with further seeds, of which it shows means.
    """

    title: str
    changed: Callable[[Raw], Raw]
    page: Callable[[Made], Page]
    repeated: bool = False


STAGES = "prepare,caption,curate,unlearn,evaluate,attack"


def made(context: Context) -> Made:
    """Reads what the stages made; see `Made`."""
    spec = spec_of(to_dict(context.config))
    return Made(context, read(context.workdir, spec), spec)


def run_of(raw: Raw, name: str, experiment: str) -> Raw:
    """A run's settings in a config file.

    Raises:
      UserError: the config has no such run; names it.
    """
    runs = raw.get("runs", {})
    if name not in runs:
        raise UserError(
            f"config.runs.{name}: missing, and {experiment} is made from it; the config has {', '.join(runs)}"
        )
    return runs[name]


def with_runs(
    raw: Raw, runs: Mapping[str, Raw], attacks: Raw | None = None, *, benchmarks: bool = False
) -> Raw:
    """The settings with these runs and attacks alone, and the stages that an experiment needs.

    Args:
      raw: values of the config file.
      runs: name → settings.
      attacks: name → settings; those of the config file where there are none.
      benchmarks: whether the config file's benchmarks are asked.
    """
    evaluate = raw.get("evaluate", {})
    if not benchmarks:
        evaluate = evaluate | {"benchmarks": dict.fromkeys(evaluate.get("benchmarks", {}), "")}
    report = raw.get("report", {}) | {"matched": False, "landscape_images": 0}
    if attacks is None:
        attacks = raw.get("attacks", {})
    # What attacks share is refused where there is none.
    shared = raw.get("attack", {}) if attacks else {}
    return raw | {
        "stages": STAGES,
        "runs": dict(runs),
        "attack": shared,
        "attacks": attacks,
        "evaluate": evaluate,
        "report": report,
    }
