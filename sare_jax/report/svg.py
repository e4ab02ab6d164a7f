"""Matplotlib figures as inline SVG that takes colours, fonts and width from the page."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sare_jax.report.palette import HAIR, INK, MUTED, SHADES, variables
from sare_jax.report.tables import interval_text, number_text

# Points. A panel is shown between 340 and 520 CSS pixels wide, so its text stays between 10 and 15 pixels.
PANEL = (420, 270)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 12,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": HAIR,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
}


@dataclass(frozen=True)
class Point:
    """A number that a figure draws; it is told where a reader points at it.

    Attributes:
      series: whose number it is, such as a run's label.
      x: where on the abscissa, or under which condition.
      value: the number.
      interval: its (low, high), or None.
      at: its place in the axes' coordinates; None for (x, value).
      digits: decimals shown.
    """

    series: str
    x: float | str
    value: float
    interval: tuple[float, float] | None = None
    at: tuple[float, float] | None = None
    digits: int = 1

    @property
    def told(self) -> str:
        """What a reader sees, in a line."""
        where = f"{self.x:g}" if isinstance(self.x, int | float) else self.x
        bounds = f" ({interval_text(self.interval, self.digits)})" if self.interval else ""
        return f"{self.series}, {where}: {number_text(self.value, self.digits)}{bounds}"


@contextmanager
def panel(size: tuple[int, int] = PANEL) -> Iterator[tuple[Figure, Axes]]:
    """Opens an empty panel in the page's style; draw in it and call `inline` before the block ends."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72, layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        yield figure, axes


def inline(figure: Figure, name: str, description: str, points: Sequence[Point] = ()) -> str:
    """Turns a figure into an `<svg>` element.

    Args:
      figure: drawn in the stand-in colours of `palette`.
      name: unique on the page; it is put before every id, so that ids of two figures differ.
      description: text for readers who cannot see the figure (`aria-label`).
      points: the numbers that the figure's only axes draw, each told where it stands.

    Returns:
      The element without metadata, dates or fonts, so that equal data give equal text.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(stream, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r'<(g|path) id="[A-Za-z]+[._A-Za-z]*_\d+"', r"<\1", text)
    text = re.sub(r'id="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda match: re.sub(r"(\.\d)\d+", r"\1", match[0]), text)
    text = re.sub(r' transform="rotate\(-0(\.0)? [^"]*"', "", text)
    text = re.sub(r">\s+<", "><", text)
    for color, variable in variables().items():
        text = text.replace(color, f"var({variable})")
    view = text[text.index('viewBox="') :].split('"')[1]
    head = f'<svg viewBox="{view}" role="img" aria-label="{escape(description)}" xmlns="http://www.w3.org/2000/svg">'
    body = text[text.index(">") + 1 :].rstrip().removesuffix("</svg>")
    return f"{head}{body}{_told(figure, points)}</svg>"


def _told(figure: Figure, points: Sequence[Point]) -> str:
    """An unseen disc over each point, whose title browsers show on pointing at it."""
    height = figure.get_figheight() * 72
    discs = []
    for point in points:
        x, y = figure.axes[0].transData.transform(point.at or (point.x, point.value))
        discs.append(
            f'<circle cx="{x:.1f}" cy="{height - y:.1f}" r="7"><title>{escape(point.told)}</title></circle>'
        )
    return f'<g class="points" fill="none" pointer-events="all">{"".join(discs)}</g>' if discs else ""


_LEGEND_ROW, _SAMPLE, _LETTER = 18, 34, 6.6  # heights and widths in pixels; letters are taken for wide ones


def standing_alone(svg: str, heading: str, legend: Sequence[tuple[str, str]] = ()) -> str:
    """A drawing of the page as a file of its own, with the page's colours, font and background.

    Args:
      svg: an element from `inline`.
      heading: what the page writes above the drawing; here it stands inside of it.
      legend: what the page writes above all drawings of a group: label, and a sample of the line as `<svg>`.
    """
    shades = {f"--run-{place}": pair[0] for place, pair in enumerate(SHADES)}
    shades |= {"--ink": "#1e2227", "--muted": "#5c6470", "--hair": "#e3e0da", "--page": "#ffffff"}
    text = re.sub(r"var\((--[a-z0-9-]+)\)", lambda match: shades[match[1]], svg)
    head, _, rest = text.partition(">")
    _, _, width, height = head[head.index('viewBox="') + 9 :].split('"')[0].split()
    places, rows = _legend_places([label for label, _ in legend], float(width))
    top = 22 + _LEGEND_ROW * rows
    head = re.sub(r'viewBox="[^"]*"', f'viewBox="0 {-top} {width} {float(height) + top:g}"', head)
    ink = f'fill="{shades["--ink"]}"'
    entries = []
    for (label, sample), (x, row) in zip(legend, places, strict=True):
        y = -top + 22 + _LEGEND_ROW * row
        sample = re.sub(r"var\((--[a-z0-9-]+)\)", lambda match: shades[match[1]], sample)
        size = f'x="{x:g}" y="{y}" width="{_SAMPLE}" height="12"'
        entries.append(sample.replace("<svg ", f"<svg {size} ", 1))
        entries.append(
            f'<text x="{x + _SAMPLE + 6:g}" y="{y + 10}" font-size="12" {ink}>{escape(label)}</text>'
        )
    return (
        f'{head}><style>text{{font-family:system-ui,"Liberation Sans",sans-serif}}</style>'
        f'<rect y="{-top}" width="100%" height="100%" fill="{shades["--page"]}"/>'
        f'<text x="8" y="{-top + 15}" font-size="13" font-weight="600" {ink}>{escape(heading)}</text>'
        f"{''.join(entries)}{rest}\n"
    )


def _legend_places(labels: Sequence[str], width: float) -> tuple[list[tuple[float, int]], int]:
    """Each entry's x and row, from left to right and row by row, and the number of rows."""
    places: list[tuple[float, int]] = []
    x, row = 8.0, 0
    for label in labels:
        taken = _SAMPLE + 6 + _LETTER * len(label) + 14
        if places and x + taken > width:
            x, row = 8.0, row + 1
        places.append((x, row))
        x += taken
    return places, row + 1 if places else 0
