"""Reads the runs of some workdirs as points of curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax import files
from sare_jax.config import BASE_RUN, ORIGIN
from sare_jax.errors import UserError
from sare_jax.evaluation.compare import paired, shipped_counts
from sare_jax.evaluation.metrics import chair
from sare_jax.frontier.analysis import Base, Run
from sare_jax.nested import flatten
from sare_jax.settings.saved import read_saved

# In the order of `analysis.COLUMNS`.
_COLUMNS = [
    chair.COLUMNS.index(name)
    for name in ("captions", "hallucinated", "categories_found", "categories_true", "length")
]


@dataclass(frozen=True)
class Points:
    """The runs of some workdirs, as points of their methods' curves.

    Attributes:
      runs: measured runs of all methods and workdirs, with counts of the images that all share.
      bases: name of a workdir → its base model's counts of these images.
      labels: method → its name in text and legends.
      weights: method → dotted key, in a run's settings, of the weight that its curve is over.
      images: number of the images that all runs share.
      missing: runs that were not measured before and after the attack, in words.
    """

    runs: list[Run]
    bases: dict[str, Base]
    labels: dict[str, str]
    weights: dict[str, str]
    images: int
    missing: list[str]


def read_points(workdirs: Sequence[Path], methods: Mapping[str, str], attack: str) -> Points:
    """Reads the metrics of every run of some methods, before and after an attack.

    Args:
      workdirs: each the outcome of the same config with a base model of its own.
      methods: method → dotted key of its weight among its runs' settings.
      attack: name of the attack, a key of `config.attacks`.

    Raises:
      UserError: a workdir without settings or with another one's name, runs of one method that differ in more
        than weight and seed, two runs of one weight and seed, rows by different rules, or nothing measured.
    """
    names = [path.name for path in map(Path, workdirs)]
    if double := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{double.pop()}: two workdirs of this name; each stands for a base model of its own")
    agreed: dict[str, dict[str, Any]] = {method: {} for method in methods}
    labels: dict[str, list[str]] = {method: [] for method in methods}
    rows: dict[tuple[str, str, str], dict] = {}
    chosen: list[tuple[str, str, str, float, int]] = []
    missing = []
    attacking: dict[str, Any] = {}
    for workdir in map(Path, workdirs):
        config = read_saved(_there(workdir / "config.json"))
        attacking[workdir.name] = config.get("attacks", {}).get(attack)
        for run, values in config.get("runs", {}).items():
            method = method_of(run, methods)
            if method is None:
                continue
            weight, seed = _place(values, methods[method], f"{workdir.name}: config.runs.{run}")
            _agree(agreed, method, _rest(values, methods[method]), methods[method])
            if _measured(workdir, run, (ORIGIN, attack), rows):
                chosen.append((workdir.name, run, method, weight, seed))
                labels[method].append(config.get("run_labels", {}).get(run, method))
            else:
                missing.append(f"{workdir.name}: {run} was not measured before and after {attack}")
        if not _measured(workdir, BASE_RUN, (ORIGIN, attack), rows):
            _measured(workdir, BASE_RUN, (ORIGIN,), rows)
            missing.append(
                f"{workdir.name}: the base model was not attacked by {attack}, so there is no excess; name "
                f"base among config.attacks.{attack}.runs, or leave that empty, and run the attack stage"
            )
    if not chosen:
        raise UserError(
            f"{', '.join(map(str, workdirs))}: no run of {', '.join(methods)} was measured before and after "
            f"{attack}; run the stages unlearn, evaluate and attack first"
        )
    if any(settings != attacking[names[0]] for settings in attacking.values()):
        raise UserError(f"{', '.join(names)}: {attack} has other settings in one than in another")
    counts, images = _shared(rows)
    runs = [
        Run(run, method, weight, (w, seed), counts[w, run, ORIGIN], counts[w, run, attack])
        for w, run, method, weight, seed in chosen
    ]
    _refuse_doubles(runs)
    bases = {
        name: Base(counts[name, BASE_RUN, ORIGIN], counts.get((name, BASE_RUN, attack)))
        for name in names
        if (name, BASE_RUN, ORIGIN) in counts
    }
    shown = {method: shared_label(own, method) for method, own in labels.items() if own}
    return Points(runs, bases, shown, {m: methods[m] for m in shown}, images, missing)


def method_of(run: str, methods: Mapping[str, str]) -> str | None:
    """The method that a run is named after; of several that fit, the one with the longest name."""
    fitting = [method for method in methods if run == method or run.startswith(f"{method}_")]
    return max(fitting, key=len, default=None)


def shared_label(labels: Sequence[str], method: str) -> str:
    """What the labels of a method's runs share, up to a comma; the method's name where that is nothing."""
    if len(set(labels)) == 1:
        return labels[0]
    pieces = [label.split(", ") for label in labels]
    shared = []
    for column in zip(*pieces, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return ", ".join(shared) or method


def _there(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: not there; give the workdir of a finished run")
    return path


def _place(values: dict, key: str, where: str) -> tuple[float, int]:
    """Weight and seed of a run."""
    value: Any = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UserError(f"{where}.{key}: expected the weight of the method's curve, got {value!r}")
    return float(value), int(values.get("seed", 0))


def _rest(values: dict, key: str) -> dict[str, Any]:
    return {name: value for name, value in flatten(values, ".").items() if name not in (key, "seed")}


def _agree(settings: dict[str, dict[str, Any]], method: str, values: dict[str, Any], key: str) -> None:
    """Refuses runs that are points of different curves."""
    known = settings[method] = settings[method] or values
    differing = sorted(name for name in {**known, **values} if known.get(name) != values.get(name))
    if differing:
        raise UserError(
            f"config.report.frontier.methods.{method}: its runs differ in {', '.join(differing)} besides "
            f"{key} and seed; name them after different methods"
        )


def _measured(
    workdir: Path, run: str, settings: Sequence[str], rows: dict[tuple[str, str, str], dict]
) -> bool:
    """Adds a run's rows under some settings to `rows`; False, adding none, where one was not measured."""
    paths = {setting: workdir / "metrics" / run / f"{setting}.json" for setting in settings}
    if not all(path.is_file() for path in paths.values()):
        return False
    for setting, path in paths.items():
        row = files.read_json(path)
        if not isinstance(row, dict) or not isinstance(row.get("chair"), dict):
            raise UserError(
                f"{path}: holds no CHAIR; name chair among evaluate.metrics and run evaluate again"
            )
        rows[workdir.name, run, setting] = {"chair": row["chair"]}
    return True


def _shared(
    rows: dict[tuple[str, str, str], dict],
) -> tuple[dict[tuple[str, str, str], np.ndarray], int]:
    """Counts of the images that all rows share, float[n, 5] by row, and how many those are."""
    try:
        (part,) = paired(list(rows.values()), {"chair": shipped_counts()["chair"]})
    except UserError as error:
        raise UserError(f"{', '.join(sorted({key[0] for key in rows}))}: {error}") from None
    tables = (table[:, _COLUMNS] for table in part.tables)
    return dict(zip(rows, tables, strict=True)), len(part.images)


def _refuse_doubles(runs: list[Run]) -> None:
    names: dict[tuple, str] = {}
    for run in runs:
        key = (run.method, run.weight, run.sample)
        if key in names:
            raise UserError(
                f"{run.sample[0]}: {names[key]} and {run.name} are both {run.method} with weight "
                f"{run.weight:g} and seed {run.sample[1]}; a point of a curve is told once"
            )
        names[key] = run.name
