"""The figures: relearning curve (Fig. 1b), prompts, landscape (Fig. 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.metrics.chair import CHAIR_I, CHAIR_S, RECALL, WORDS
from sare_jax.report.contrasts import Number, measured
from sare_jax.report.measures import Value, metrics_in
from sare_jax.report.palette import INK, MUTED, look
from sare_jax.report.read import Inputs, trained
from sare_jax.report.spans import widen
from sare_jax.report.spec import ReportSpec
from sare_jax.report.svg import Point, inline, panel
from sare_jax.report.tables import number_text


@dataclass(frozen=True)
class Panel:
    """One drawing: its heading, its SVG, `better`, which is `lower`, `higher` or None, and its numbers."""

    label: str
    svg: str
    better: str | None = None
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class FigureGroup:
    """Panels that share a legend.

    Attributes:
      key: the group's anchor on the page.
      runs: keys of the runs in the legend, in its order.
      panels: the drawings, in reading order.
    """

    key: str
    runs: tuple[str, ...]
    panels: tuple[Panel, ...]


def relearning(inputs: Inputs, spec: ReportSpec) -> FigureGroup | None:
    """Fig. 1b: measures by number of relearning samples, with 95 % bands; None if no run was attacked."""
    attacked = relearned(inputs, spec)
    if not attacked:
        return None
    panels = tuple(_relearning_panel(inputs, spec, attacked, m) for m in (CHAIR_S, CHAIR_I, RECALL, WORDS))
    base = (spec.base,) if (spec.base, "origin") in inputs.metrics else ()
    return FigureGroup("relearning", (*base, *attacked), panels)


def hero(inputs: Inputs, spec: ReportSpec, place: str = "hero") -> FigureGroup | None:
    """The part of Fig. 1b that the headline is about: CHAIR_S of all runs and of the base model.

    `place` is the group's anchor, and stands before every id of the drawing.
    """
    runs = relearned(inputs, spec)
    if not runs:
        return None
    base = (spec.base,) if (spec.base, "origin") in inputs.metrics else ()
    return FigureGroup(place, (*base, *runs), (_relearning_panel(inputs, spec, runs, CHAIR_S, place),))


def relearned(inputs: Inputs, spec: ReportSpec) -> tuple[str, ...]:
    """Keys of the runs that were measured at more than one point of the relearning curve."""
    steps = [setting for setting in spec.settings if setting.samples is not None]
    return tuple(
        run.key
        for run in trained(spec)
        if sum((run.key, setting.key) in inputs.metrics for setting in steps) > 1
    )


def _relearning_panel(
    inputs: Inputs, spec: ReportSpec, runs: Sequence[str], measure: Measure, place: str = "relearn"
) -> Panel:
    steps = [(setting.samples, setting.key) for setting in spec.settings if setting.samples is not None]
    described, told = [], []
    with panel() as (figure, axes):
        base = measured(inputs, spec.base, "origin", measure)
        if base.number is not None:
            _level(axes, Number(base.number, base.interval), look(spec, spec.base).color)
            described.append(f"{spec.label(spec.base)} {number_text(base.number)}")
        attacked = [key for _, key in steps if (spec.base, key) in inputs.metrics]
        for run in (*((spec.base,) if len(attacked) > 1 else ()), *runs):
            values = [(x, measured(inputs, run, key, measure)) for x, key in steps]
            points = [(x, Number(v.number, v.interval)) for x, v in values if v.number is not None]
            _curve(axes, spec, run, points)
            told += [
                Point(spec.label(run), x, v.number, v.interval, digits=measure.digits) for x, v in points
            ]
            described.append(
                f"{spec.label(run)} " + ", ".join(f"{number_text(v.number)} at {x}" for x, v in points)
            )
        axes.set_xticks([samples for samples, _ in steps])
        axes.set_xlabel("relearning samples")
        if measure in (CHAIR_S, CHAIR_I):
            axes.set_ylim(bottom=0)
        widen(axes, measure.key, most=101 if measure is RECALL else float("inf"))
        text = f"{measure.label} by number of relearning samples. {'; '.join(described)}."
        svg = inline(figure, f"{place}-{measure.key}", text, told)
        return Panel(measure.label, svg, measure.better, tuple(told))


def _level(axes: Axes, base: Number, color: str) -> None:
    if base.interval:
        axes.axhspan(*base.interval, color=color, alpha=0.12, linewidth=0)
    axes.axhline(base.number, color=color, linestyle=":", linewidth=1.6)


def _curve(axes: Axes, spec: ReportSpec, run: str, points: list[tuple[int, Number]]) -> None:
    style = look(spec, run)
    banded = [(x, v.interval) for x, v in points if v.interval]
    if banded:
        xs, bounds = zip(*banded, strict=True)
        lows, highs = zip(*bounds, strict=True)
        axes.fill_between(xs, lows, highs, color=style.color, alpha=0.12, linewidth=0)
    line(axes, spec, run, [x for x, _ in points], [v.number for _, v in points])


def line(axes: Axes, spec: ReportSpec, run: str, xs: Sequence, ys: Sequence, every: int = 1) -> None:
    """Draws a curve in the run's look, with a mark at every so many points."""
    style = look(spec, run)
    axes.plot(
        xs,
        ys,
        color=style.color,
        linestyle=style.dash,
        linewidth=1.8,
        marker=style.marker,
        markevery=every,
        markersize=5.5,
        markeredgewidth=1.5,
        markerfacecolor=style.color if style.filled else "none",
    )


def prompts(inputs: Inputs, spec: ReportSpec) -> FigureGroup | None:
    """Measures before and under each attack that is no relearning, a row per run; None without any."""
    others = [s for s in spec.settings if s.samples is None]
    runs = tuple(r.key for r in spec.runs if any((r.key, s.key) in inputs.metrics for s in others))
    if not runs:
        return None
    panels = tuple(
        _prompt_panel(inputs, spec, runs, setting.key, setting.label, measure)
        for setting in others
        for measure in (m for metric in metrics_in(spec) for m in metric.prompted)
    )
    return FigureGroup("prompts", (), panels)


def _prompt_panel(
    inputs: Inputs, spec: ReportSpec, runs: Sequence[str], setting: str, label: str, measure: Measure
) -> Panel:
    described, told = [], []
    with panel((420, 50 + 36 * len(runs))) as (figure, axes):
        for row, run in enumerate(runs):
            color = look(spec, run).color
            before, after = (measured(inputs, run, key, measure) for key in ("origin", setting))
            for point, offset, filled, when in (
                (before, -0.14, False, "before"),
                (after, 0.14, True, label),
            ):
                if point.number is None:
                    continue
                if point.interval:
                    axes.plot(point.interval, [row + offset] * 2, color=color, linewidth=1.6)
                fill = color if filled else "white"
                axes.plot(point.number, row + offset, "o", color=color, markerfacecolor=fill, markersize=6)
                place = (point.number, row + offset)
                told.append(Point(spec.label(run), when, point.number, point.interval, place, measure.digits))
            described.append(f"{spec.label(run)} {_shown(before)} before, {_shown(after)} under the prompt")
        axes.set_yticks(range(len(runs)), [spec.label(run) for run in runs])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(runs) - 0.5, -0.5)
        widen(axes, measure.key, "x")
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        text = f"{measure.label} before and under the {label}. {'; '.join(described)}."
        svg = inline(figure, f"prompt-{setting}-{measure.key}", text, told)
        svg = svg.replace("#ffffff", "var(--page)")
        return Panel(measure.label, svg, measure.better, tuple(told))


def _shown(value: Value) -> str:
    return value.reason if value.number is None else number_text(value.number)


DIRECTIONS = (("eps", "along ε*"), ("random", "along a random direction"))


def landscape(inputs: Inputs, spec: ReportSpec) -> FigureGroup | None:
    """Fig. 2, measured: loss on D_neg and CHAIR along lines through the solutions; None without a scan."""
    record = inputs.landscape or {}
    scans = record.get("runs") or {}
    runs = tuple(run.key for run in trained(spec) if run.key in scans)
    panels = []
    for key, label in (("loss", "L_ft of the negatives"), ("chair_s", "CHAIR_S"), ("chair_i", "CHAIR_I")):
        curves = {
            (run, direction): scan_points(scans[run].get(direction) or {}, key)
            for run in runs
            for direction, _ in DIRECTIONS
        }
        curves = {which: points for which, points in curves.items() if points}
        limits = _limits([y for points in curves.values() for _, y in points])
        for direction, words in DIRECTIONS:
            shown = {run: points for (run, which), points in curves.items() if which == direction}
            if shown:
                rho = record.get("rho")
                panels.append(
                    _landscape_panel(spec, (key, direction), f"{label} {words}", shown, limits, rho)
                )
    return FigureGroup("landscape", runs, tuple(panels)) if panels else None


def scan_points(scan: dict, key: str) -> list[tuple[float, float]]:
    """(α, value) pairs of one line scan; points that were not measured are left out."""
    return [
        (a, y) for a, y in zip(scan.get("alpha") or [], scan.get(key) or [], strict=False) if y is not None
    ]


def _limits(values: list[float]) -> tuple[float, float] | None:
    """Limits of the y axis that two panels share, so that they can be compared by eye."""
    if not values:
        return None
    margin = 0.06 * ((max(values) - min(values)) or 1.0)
    return min(values) - margin, max(values) + margin


def _landscape_panel(
    spec: ReportSpec,
    name: tuple[str, str],
    label: str,
    curves: dict,
    limits: tuple[float, float] | None,
    rho: float | None,
) -> Panel:
    described, told = [], []
    with panel() as (figure, axes):
        axes.axvline(0, color=MUTED, linewidth=0.8)
        if isinstance(rho, int | float) and rho > 0:
            axes.axvspan(-rho, rho, color=MUTED, alpha=0.12, linewidth=0)
        for run, points in curves.items():
            xs, ys = zip(*points, strict=True)
            line(axes, spec, run, xs, ys)
            told += [Point(spec.label(run), x, y, digits=2) for x, y in points]
            described.append(
                f"{spec.label(run)} " + ", ".join(f"{number_text(y, 2)} at {x:g}" for x, y in points)
            )
        if limits:
            axes.set_ylim(*limits)
        widen(axes, name[0])
        axes.set_xlabel("‖Δθ‖₂,  towards hallucination →" if name[1] == "eps" else "‖Δθ‖₂")
        text = f"{label}, by distance from the solution. {'; '.join(described)}."
        return Panel(label, inline(figure, f"landscape-{'-'.join(name)}", text, told), None, tuple(told))
