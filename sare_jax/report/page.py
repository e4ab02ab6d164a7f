"""Fills the page template. Other modules make the texts and numbers; this one only arranges them."""

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from sare_jax.report import palette
from sare_jax.report.comma_separated import points_csv, table_csv
from sare_jax.report.measures import columns_in
from sare_jax.report.shown import by_row, shown
from sare_jax.report.spec import ReportSpec

_FOLDER = Path(__file__).parent
SIGNS = {"better": "▼", "worse": "▲", "none": "=", "open": "?", "note": "·"}
_SUBSCRIPT = re.compile(r"(?<![A-Za-z])(CHAIR|Human|L|D)_(S|I|ft|neg|pos|sent)\b")
_DASHES = {"-": "", "--": "6 3", ":": "2 3"}


def typeset(text: Any) -> Markup:
    """Escapes a text, sets `CHAIR_S`, `L_neg` and their like with subscripts, and keeps 95 and % together."""
    return Markup(_SUBSCRIPT.sub(r"\1<sub>\2</sub>", escape(str(text))).replace(" %", "&nbsp;%"))


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def render(content: Mapping[str, Any], spec: ReportSpec, template: str = "page.html") -> str:
    """Makes an HTML page.

    Args:
      content: tables, figures and sentences by the names that the template uses; those of the report are
        from `writing.gather`.
      spec: title, labels and order of the runs.
      template: name of a file beside this one.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {
        "typeset": typeset,
        "sentence": sentence,
        "shown": shown,
        "by_row": by_row,
        "csv": table_csv,
        "points_csv": points_csv,
    }
    environment.globals |= {
        "swatch": lambda key: _swatch(spec, key),
        "sample": lambda key: sample(spec, key),
        "run_class": lambda key: _run_class(spec, key),
    }
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        content,
        spec=spec,
        css=_css(),
        js=script,
        policy=_policy(script),
        signs=SIGNS,
        contents=_contents(content),
        reading=_reading(spec),
    )


def _policy(script: str) -> str:
    """What a browser may load for the page: what stands in it, and of scripts this one alone."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _reading(spec: ReportSpec) -> list[tuple[str, str | None, str]]:
    """(labels, better, explanation) of the result table's columns; those with one explanation are joined."""
    labels: dict[tuple[str, str | None], list[str]] = {}
    for measure in columns_in(spec):
        labels.setdefault((measure.help, measure.better), []).append(measure.label)
    return [(", ".join(names), better, text) for (text, better), names in labels.items()]


def _css() -> str:
    """The style sheet, with the runs' colours for light and dark pages."""
    light = "".join(f"--run-{i}:{shades[0]};" for i, shades in enumerate(palette.SHADES))
    dark = "".join(f"--run-{i}:{shades[1]};" for i, shades in enumerate(palette.SHADES))
    classes = "".join(f".run-{i}{{--run:var(--run-{i})}}" for i in range(len(palette.SHADES)))
    colors = f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{classes}\n"
    return colors + (_FOLDER / "page.css").read_text(encoding="utf-8")


def _run_class(spec: ReportSpec, key: str) -> str:
    return f"run-{palette.look(spec, key).index}" if spec.run(key) else ""


def _swatch(spec: ReportSpec, key: str) -> Markup:
    """A small square in the run's colour, shown before its name; empty if `key` is not a run."""
    name = _run_class(spec, key)
    return Markup(f'<span class="swatch {name}" aria-hidden="true"></span>') if name else Markup("")


def sample(spec: ReportSpec, key: str) -> Markup:
    """A piece of the run's line with its mark, for legends."""
    look = palette.look(spec, key)
    color = f"var(--run-{look.index})"
    fill = color if look.filled else "var(--page)"
    marks = {
        "o": f'<circle cx="17" cy="6" r="4" fill="{fill}"/>',
        "s": f'<rect x="13" y="2" width="8" height="8" fill="{fill}"/>',
        "^": f'<path d="M17 1.5 21.5 10h-9z" fill="{fill}"/>',
    }
    line = f'<path d="M1 6h32" fill="none" stroke-dasharray="{_DASHES[look.dash]}"/>'
    return Markup(
        f'<svg class="sample" viewBox="0 0 34 12" aria-hidden="true" stroke="{color}" stroke-width="1.8">'
        f"{line}{marks.get(look.marker, '')}</svg>"
    )


def _contents(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(anchor, heading) of each section that the page has."""
    optional = (
        ("frontier", "Frontiers"),
        ("relearning", "Relearning"),
        ("prompts", "Adversarial prompt"),
        ("landscape", "Sharpness"),
        ("gallery", "Captions"),
        ("curation", "Curation"),
        ("selection", "Choice of settings"),
    )
    last = (("training", "Training"),) if content.get("training") else ()
    return [
        ("short", "In short"),
        ("results", "Results"),
        *((key, name) for key, name in optional if content.get(key)),
        ("reading", "How to read the numbers"),
        *last,
        ("provenance", "Settings and provenance"),
    ]
