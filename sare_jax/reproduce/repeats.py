"""Runs of one method with several seeds: their mean, with intervals over seeds and images."""

from collections.abc import Sequence

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.compare import counts_of, paired
from sare_jax.report.contrasts import contrast, measured, sampling, with_counts
from sare_jax.report.measures import Value, benchmarks_in, metrics_in
from sare_jax.reproduce.experiment import Made, Raw

_MARK = "_seed"


def with_seeds(raw: Raw, seeds: int) -> Raw:
    """The settings with each run so many times; those beyond the first are named `RUN_seed1` and so on.

    Raises:
      UserError: a run of the config has a name of that form, and so would be taken for a repeat.
    """
    runs = {}
    for name, settings in raw["runs"].items():
        if is_repeat(name):
            raise UserError(f"config.runs.{name}: --seeds names repeats of a run so; give it another name")
        runs[name] = settings
        first = int(settings.get("seed", raw.get("optim", {}).get("seed", 0)))
        for number in range(1, seeds):
            label = f"{settings.get('label', name)}, seed {first + number}"
            runs[f"{name}{_MARK}{number}"] = {**settings, "seed": first + number, "label": label}
    return raw | {"runs": runs}


def is_repeat(run: str) -> bool:
    """Whether a run repeats another one with a further seed."""
    return run.rpartition(_MARK)[2].isdigit() and _MARK in run


def repeats_of(made: Made, run: str) -> tuple[str, ...]:
    """A run and those that repeat it."""
    further = [
        name for name in made.context.config.runs if name.rpartition(_MARK)[0] == run and is_repeat(name)
    ]
    return (run, *further)


def mean_over_seeds(made: Made, run: str, setting: str, measure: Measure) -> Value:
    """A method's number: of its one run, or the mean over its seeds with an interval over seeds and images.

    A number that is not made of counts by image has no interval where there are several seeds.
    """
    runs = repeats_of(made, run)
    values = [measured(made.inputs, name, setting, measure) for name in runs]
    numbers = [value.number for value in values if value.number is not None]
    if len(runs) == 1 or len(numbers) < len(runs):
        return next((value for value in values if value.number is None), values[0])
    found = _across(made, [(name,) for name in runs], (1.0,), setting, measure)
    if found is None:
        return Value(sum(numbers) / len(numbers), None, "")
    low, high = found["interval"]
    return Value(found["difference"] * measure.scale, (low * measure.scale, high * measure.scale), "")


def difference_over_seeds(
    made: Made, run: str, other: str, setting: str, measure: Measure
) -> tuple[float, tuple[float, float] | None, float | None] | None:
    """Difference of two methods, its interval and p-value, paired by image and seed; None if not measured."""
    pairs = list(zip(repeats_of(made, run), repeats_of(made, other), strict=False))
    if len(pairs) == 1:
        found = contrast(made.inputs, made.spec, run, other, setting, measure)
        return None if found is None else (found.difference, found.interval, found.p)
    drawn = _across(made, pairs, (1.0, -1.0), setting, measure)
    if drawn is None:
        return None
    low, high = drawn["interval"]
    return drawn["difference"] * measure.scale, (low * measure.scale, high * measure.scale), drawn["p"]


def _across(
    made: Made, repeats: Sequence[tuple[str, ...]], weights: Sequence[float], setting: str, measure: Measure
) -> dict | None:
    """`bootstrap.across` of the runs of each seed; None where counts by image are missing."""
    results = [[made.inputs.result(run, setting) or {} for run in runs] for runs in repeats]
    section = measure.path[0]
    documents = [with_counts(result.get(section)) for row in results for result in row]
    if not all(documents):
        return None
    known = counts_of(metrics_in(made.spec), benchmarks_in(made.spec))
    named = {
        f"{part.name}.{name}": (part.tables, metric)
        for part in paired([{section: document} for document in documents], known)
        for name, metric in part.metrics.items()
    }
    if measure.result_name not in named:
        return None
    tables, metric = named[measure.result_name]
    size = len(weights)
    groups = [tables[first : first + size] for first in range(0, len(tables), size)]
    return bootstrap.across(groups, weights, metric, **sampling(results[0][0]))
