"""Stage 7: landscape, comparisons of equally erased checkpoints, and the report."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sare_jax import files, report
from sare_jax.config import BASE_RUN, ORIGIN, to_dict
from sare_jax.evaluation.metrics import chair
from sare_jax.frontier import writing as frontier
from sare_jax.pipeline import Task
from sare_jax.report import ReportSpec, spec_of, write
from sare_jax.settings.road import Config
from sare_jax.shipped import located
from sare_jax.stages import landscape, matched, measuring
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import steps_in


def tasks(context: Context) -> Iterator[Task]:
    """Makes `landscape.json`, `matched.json`, `comparisons.json`, frontiers and the report in its forms."""
    yield from landscape.tasks(context)
    yield from matched.tasks(context)
    yield _comparisons(context)
    yield from frontiers(context)
    yield _page(context)


def frontiers(context: Context) -> Iterator[Task]:
    """Makes `frontier.json` and its other forms where the config names methods with a weight."""
    settings = context.config.report
    if not settings.frontier.methods:
        return
    rows = [
        context.metrics(run, name)
        for run in (BASE_RUN, *context.config.runs)
        for name in (ORIGIN, settings.matched_attack)
    ]
    yield Task(
        name="report/frontier",
        inputs={
            "rows": {
                path.relative_to(context.workdir).as_posix(): files.hash_file(path)
                for path in rows
                if path.exists()
            },
            "frontier": dataclasses.asdict(settings.frontier),
            "compared": [settings.baseline, settings.ours, settings.equal_words, settings.matched_attack],
            "draws": context.config.evaluate.bootstrap,
            "labels": context.config.run_labels,
            "code": _code(frontier, report),
        },
        outputs=tuple(context.workdir / name for name in frontier.NAMES),
        run=lambda: _draw_frontier(context),
    )


def _draw_frontier(context: Context) -> None:
    settings = context.config.report
    found = frontier.frontier(
        [context.workdir],
        settings.frontier.methods,
        settings.matched_attack,
        settings.frontier.levels,
        settings.baseline,
        draws=context.config.evaluate.bootstrap,
    )
    frontier.write(found, context.workdir, settings.ours, settings.equal_words)


def _code(*packages: ModuleType) -> list[str]:
    """Hashes of the sources of some packages, or of a module's package."""
    folders = [Path(str(package.__file__)).parent for package in packages]
    return [files.hash_file(path) for folder in folders for path in sorted(folder.glob("*.*"))]


def _comparisons(context: Context) -> Task:
    pairs = [pair for pair in _pairs(context) if all(context.metrics(*row).exists() for row in pair)]
    at_equal = context.workdir / "matched.json"
    return Task(
        name="report/comparisons",
        inputs={
            "pairs": [[files.hash_file(context.metrics(*row)) for row in pair] for pair in pairs],
            "matched": files.hash_file(at_equal) if at_equal.exists() else None,
            "footings": matched.FOOTINGS,
            "counts": "discordant",
            "labels": context.config.run_labels,
        },
        outputs=(context.workdir / "comparisons.json",),
        run=lambda: files.write_json(
            context.workdir / "comparisons.json",
            [
                *(entry for pair in pairs for entry in _compared(context, *pair)),
                *(_at_equal(context, files.read_json(at_equal)) if at_equal.exists() else []),
            ],
        ),
    )


def _pairs(context: Context) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """(run, setting) of the baseline and of our method, in every setting."""
    settings = context.config.report
    names = [ORIGIN, *context.config.attacks]
    return [((settings.baseline, name), (settings.ours, name)) for name in names]


def _compared(context: Context, a: tuple[str, str], b: tuple[str, str]) -> Iterator[dict]:
    before, after = (files.read_json(context.metrics(*row)) for row in (a, b))
    metrics = measuring.differences(context, before, after)
    for metric, _ in measuring.metrics_in(context.config.evaluate):
        for measure in metric.compared:
            if measure.result_name in metrics:
                difference = metrics[measure.result_name]
                yield _entry(a[1], a[0], b[0], measure.result_name, difference, "final weights")


def _at_equal(context: Context, matching: dict) -> Iterator[dict]:
    """Entries on the matched checkpoints; a pair that is closest in several numbers gets one entry."""
    by_steps: dict[tuple, list[dict]] = {}
    for pair in matching["pairs"]:
        by_steps.setdefault(tuple(pair["steps"].items()), []).append(pair)
    for steps, pairs in by_steps.items():
        (a, step_a), (b, step_b) = steps
        footings = [_footing(pair) for pair in pairs]
        gaps = " and ".join(f"{footing['gap']:.1f} {footing['unit']}" for footing in footings)
        named = context.config.run_labels
        note = (
            f"{named[a]} at step {step_a}, {named[b]} at step {step_b}; {gaps} apart on "
            f"{matching['n_validation']} validation images"
        )
        final = all(step == steps_in(context.checkpoints(run))[-1] for run, step in steps)
        labels = " and ".join(footing["label"] for footing in footings)
        for setting, metrics in pairs[0]["differences"].items():
            for measure in chair.METRIC.compared:
                name = measure.result_name
                entry = _entry(f"{setting}, {labels}", a, b, name, metrics[name], note)
                yield entry | {"footings": footings, "final": final}


def _footing(pair: dict) -> dict:
    """A pair's difference in the number it was chosen by, and the largest that counts as equal."""
    footing = matched.FOOTINGS[pair["key"]]
    return {
        "label": footing.label,
        "unit": footing.unit,
        "gap": pair["gap_on_validation"],
        "bound": footing.bound,
    }


def _entry(name: str, a: str, b: str, metric: str, compared: dict, note: str) -> dict:
    return {
        "name": name,
        "a": a,
        "b": b,
        "metric": metric,
        "difference": compared["difference"],
        "interval": compared["interval"],
        "n": compared["n"],
        "discordant": compared["discordant"],
        "note": note,
    }


def _page(context: Context) -> Task:
    workdir = context.workdir
    outputs = tuple(workdir / f"report.{kind}" for kind in ("html", "json", "md"))
    read = [
        *(
            context.metrics(run, name)
            for run in (BASE_RUN, *context.config.runs)
            for name in _settings(context)
        ),
        *(
            path(run, name)
            for run in (BASE_RUN, *context.config.runs)
            for name in _settings(context)
            for path in (context.probe, context.attack_record)
        ),
        *(context.masking(run) for run in (BASE_RUN, *context.config.runs)),
        *(context.log(run) for run in context.config.runs),
        *(
            workdir / name
            for name in ("landscape.json", "comparisons.json", "frontier.json", "curated/manifest.json")
        ),
    ]
    return Task(
        name="report/page",
        inputs={
            "read": {
                path.relative_to(workdir).as_posix(): files.hash_file(path) for path in read if path.exists()
            },
            "floor": _floor_hashes(context),
            "settings": dataclasses.asdict(context.config.report),
            "selection": _selection_hash(context),
            "labels": context.config.run_labels,
            "code": _code(report),
        },
        outputs=outputs,
        run=lambda: _write(context),
    )


def _write(context: Context) -> None:
    selection = context.config.report.selection
    if selection:
        files.write_json(context.workdir / "selection.json", files.read_json(located(selection)))
    write(context.workdir, spec_for(context.config), truth=context.truth, images_dir=context.images)


def spec_for(config: Config) -> ReportSpec:
    """What the report of these settings is about."""
    return dataclasses.replace(spec_of(to_dict(config)), subject=config.report.subject)


def _floor_hashes(context: Context) -> dict[str, str]:
    """Hashes of the floor's rows; empty where the config names no floor or it has none."""
    folder = Path(context.config.report.floor or ".") / "metrics" / BASE_RUN
    rows = [folder / f"{name}.json" for name in _settings(context)] if context.config.report.floor else []
    return {path.name: files.hash_file(path) for path in rows if path.exists()}


def _settings(context: Context) -> list[str]:
    return [ORIGIN, *context.config.attacks]


def _selection_hash(context: Context) -> str | None:
    name = context.config.report.selection
    return files.hash_value(files.read_json(located(name))) if name else None
