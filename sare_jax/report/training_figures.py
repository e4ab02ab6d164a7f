"""Training curves, smoothed: losses and gradient norms by step."""

import math

from sare_jax.report.figures import FigureGroup, Panel, line
from sare_jax.report.read import Inputs, trained
from sare_jax.report.spans import widen
from sare_jax.report.spec import ReportSpec
from sare_jax.report.svg import Point, inline, panel
from sare_jax.report.tables import number_text

ERASING = (("neg", "L_neg at θ"), ("neg_perturbed", "L_neg at θ + ε*"), ("neg_grad_norm", "‖∇L_neg(θ)‖"))
SHARED = (("pos", "L_pos"), ("sent", "L_sent"), ("cosine", "cosine of ∇L_neg at θ and θ + ε*"))
CURVE_POINTS = 40
SMOOTHED = 0.1
"""Share of all records behind each point."""


def training(inputs: Inputs, spec: ReportSpec) -> FigureGroup | None:
    """Losses and gradient norms by step; None without logs.

    The erasing losses of two objectives differ in scale, so each pair of runs gets panels of its own.
    """
    runs = tuple(run.key for run in trained(spec) if run.key in inputs.logs)
    paired = [key for pair in spec.pairs for key in pair]
    sets = [
        [run for run in runs if run not in paired],
        *([r for r in pair if r in runs] for pair in spec.pairs),
    ]
    wanted = [(key, label, members) for members in sets for key, label in ERASING]
    wanted += [(key, label, list(runs)) for key, label in SHARED]
    panels = []
    for key, label, members in wanted:
        series = {run: pairs for run in members if (pairs := _series(inputs.logs[run], key))}
        if series:
            panels.append(_training_panel(spec, key, label, series))
    return FigureGroup("training", runs, tuple(panels)) if panels else None


def _series(records: list[dict], key: str) -> list[tuple[float, float]]:
    """(step, value) pairs of a logged metric, at most `CURVE_POINTS`, each a mean of its neighbours.

    The neighbours are the `SMOOTHED` share of all records around a point, fewer at the ends.
    """
    pairs = [
        (record["step"], record[key])
        for record in records
        if _is_finite(record.get(key)) and isinstance(record.get("step"), int | float)
    ]
    reach = int(SMOOTHED * len(pairs) / 2)
    shown = min(CURVE_POINTS, len(pairs))
    places = [round(i * (len(pairs) - 1) / max(1, shown - 1)) for i in range(shown)]
    return [_mean(pairs[max(0, place - reach) : place + reach + 1]) for place in places]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _mean(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in pairs) / len(pairs), sum(y for _, y in pairs) / len(pairs)


def _training_panel(
    spec: ReportSpec, key: str, label: str, series: dict[str, list[tuple[float, float]]]
) -> Panel:
    described, told = [], []
    with panel() as (figure, axes):
        for run, pairs in series.items():
            xs, ys = zip(*pairs, strict=True)
            line(axes, spec, run, xs, ys, every=8)
            told += [Point(spec.label(run), round(x, 1), y, digits=3) for x, y in pairs]
            described.append(f"{spec.label(run)} from {number_text(ys[0], 2)} to {number_text(ys[-1], 2)}")
        widen(axes, key)
        axes.set_xlabel("step")
        text = f"{label} by training step, smoothed. {'; '.join(described)}."
        svg = inline(figure, f"training-{key}-{'-'.join(series)}", text, told)
        return Panel(label, svg, None, tuple(told))
