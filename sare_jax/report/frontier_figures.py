"""Frontiers drawn: CHAIR_S before and after the attack against recall before it."""

from collections.abc import Mapping
from typing import Any

from sare_jax.report import palette
from sare_jax.report.figures import FigureGroup, Panel
from sare_jax.report.palette import INK, MUTED
from sare_jax.report.spans import widen
from sare_jax.report.svg import Point, inline, panel
from sare_jax.report.tables import number_text

_PANELS = (("after", "CHAIR_S after the attack"), ("before", "CHAIR_S before the attack"))


def frontiers(frontier: Mapping[str, Any]) -> FigureGroup:
    """Two panels with every method's curve, its single runs as faint marks, and the recalls that are read."""
    return FigureGroup("frontiers", (), tuple(_panel(frontier, key, label) for key, label in _PANELS))


def _panel(frontier: Mapping[str, Any], key: str, label: str) -> Panel:
    described: list[str] = []
    told: list[Point] = []
    with panel((460, 320)) as (figure, axes):
        for recall in frontier["recalls"]:
            axes.axvline(recall, color=MUTED, linewidth=0.8, linestyle=":")
        for place, (method, item) in enumerate(frontier["methods"].items(), start=1):
            look = palette.look_at(place)
            points = sorted((point["recall"]["value"], point[key]["value"]) for point in item["points"])
            xs, ys = zip(*points, strict=True)
            runs = [run for run in frontier["runs"] if run["method"] == method]
            axes.plot(
                [run["recall"] for run in runs],
                [run[key] for run in runs],
                look.marker,
                color=look.color,
                alpha=0.3,
                markersize=3,
                linestyle="none",
            )
            axes.plot(
                xs,
                ys,
                color=look.color,
                linestyle=look.dash,
                linewidth=1.8,
                marker=look.marker,
                markersize=6,
                label=frontier["labels"][method],
            )
            told += [
                Point(frontier["labels"][method], f"recall {number_text(x)}", y, at=(x, y)) for x, y in points
            ]
            described.append(
                f"{frontier['labels'][method]} "
                + ", ".join(f"{number_text(y)} at {number_text(x)}" for x, y in points)
            )
        axes.set_xlabel("recall before the attack")
        axes.set_ylim(bottom=0)
        widen(axes, "chair_s")
        widen(axes, "recall", "x", most=101)
        legend = axes.legend(frameon=False, fontsize=11, loc="upper left")
        for name in legend.get_texts():
            name.set_color(INK)
        text = f"{label} by recall before it. {'; '.join(described)}."
        return Panel(label, inline(figure, f"frontier-{key}", text, told), "lower", tuple(told))
