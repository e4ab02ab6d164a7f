"""Tables and figure of curation: sizes of the sets, thresholds, precision and recall."""

from collections.abc import Mapping
from typing import Any

from sare_jax.evaluation.columns import NOT_MEASURED
from sare_jax.report.figures import FigureGroup, Panel
from sare_jax.report.palette import INK, MUTED
from sare_jax.report.read import Inputs
from sare_jax.report.svg import inline, panel
from sare_jax.report.tables import Cell, Column, Group, Row, Table, absent, number_text, plain

_SETS = (
    ("neg", "D_neg: to unlearn", "t1", "S(o) < T₁ ="),
    ("pos", "D_pos: to keep", "t0", "S(o) > T₀ ="),
    ("sent", "D_sent: whole captions", "t2", "S(y) > T₂ ="),
)


def curation(inputs: Inputs) -> list[Table]:
    """A table of the three sets and one of what was left out; empty without a manifest."""
    if not inputs.manifest:
        return []
    return [table for table in (_sets(inputs.manifest), _dropped(inputs.manifest)) if table]


def _part(node: Any, *keys: str) -> Any:
    """The value under nested keys, or None."""
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _sets(manifest: dict) -> Table:
    rows = []
    for key, label, limit, rule in _SETS:
        size, threshold = _part(manifest, "counts", key), _part(manifest, "thresholds", limit)
        cells = [
            Cell(f"{size:,}", value=size) if isinstance(size, int) else plain("not in the manifest"),
            plain(f"{rule} {threshold:.2f}" if isinstance(threshold, int | float) else "not in the manifest"),
            *(_percent(_part(manifest, "audit", key, name)) for name in ("precision", "recall")),
        ]
        rows.append(Row(key, label, tuple(cells)))
    columns = (
        Column("size", "Units"),
        Column("rule", "Chosen where"),
        Column(
            "precision", "Precision", "higher", "Of the set's units that can be judged, those chosen rightly."
        ),
        Column("recall", "Recall", "higher", "Of all units that should be in the set, those that are."),
    )
    caption = "The three training sets; precision and recall are against the annotations"
    return Table("curation", caption, "Set", columns, (Group("", "", tuple(rows)),), _notes(manifest))


def _percent(share: Any) -> Cell:
    if not isinstance(share, int | float):
        return absent(NOT_MEASURED)
    return Cell(f"{number_text(100 * share)} %", value=share)


def _notes(manifest: dict) -> tuple[str, ...]:
    notes = []
    auc = _part(manifest, "audit", "auc")
    if isinstance(auc, int | float):
        notes.append(
            f"AUC of the CLIP score, present against absent objects: {auc:.3f} (0.5 is chance, 1 perfect), "
            f"on {_part(manifest, 'audit', 'judged')} objects that the annotations can tell of."
        )
    else:
        notes.append("AUC of the CLIP score: not measured.")
    share = _part(manifest, "audit", "hallucinated")
    if isinstance(share, int | float):
        notes.append(
            f"{number_text(100 * share)} % of the judged objects in the training captions are hallucinated."
        )
    chosen = _part(manifest, "thresholds", "chosen")
    if isinstance(chosen, Mapping):
        flat = {key: value for key, value in chosen.items() if not isinstance(value, Mapping)}
        notes.append("Thresholds: " + ", ".join(f"{key} {value}" for key, value in flat.items()) + ".")
    for name, text in (("CLIP model", _part(manifest, "clip", "model")), ("Scores", manifest.get("mode"))):
        if text:
            notes.append(f"{name}: {text}.")
    return tuple(notes)


_STEPS = {
    "records": "records of the file",
    "captions": "captions",
    "mentions": "mentions of objects",
    "objects": "objects in neither D_neg nor D_pos",
    "sentences": "captions not in D_sent",
}


def _dropped(manifest: dict) -> Table | None:
    rows = []
    for key in ("captions", "captions_scored", "objects", "phrases"):
        count = _part(manifest, "counts", key)
        if isinstance(count, int):
            rows.append(Row(key, key.replace("_", " ") + " in all", (Cell(f"{count:,}", value=count),)))
    for step, words in _STEPS.items():
        for reason, count in (_part(manifest, "dropped", step) or {}).items():
            label = f"{words}: {reason.replace('_', ' ')}"
            rows.append(Row(f"{step}.{reason}", label, (Cell(f"{count:,}", value=count),)))
    if not rows:
        return None
    columns = (Column("count", "Count"),)
    return Table(
        "left_out", "What there was, and what was left out", "", columns, (Group("", "", tuple(rows)),)
    )


def score_figure(inputs: Inputs) -> FigureGroup | None:
    """CLIP scores of objects and captions, with the thresholds; None if the manifest holds no scores."""
    manifest = inputs.manifest or {}
    quantiles = _part(manifest, "scores", "quantiles")
    rows = [
        (label, _part(manifest, "scores", key), limits)
        for label, key, limits in (
            ("objects", "objects", (("t1", "T₁"), ("t0", "T₀"))),
            ("captions (mean)", "captions", (("t2", "T₂"),)),
        )
    ]
    rows = [(label, values, limits) for label, values, limits in rows if values]
    if not quantiles or not rows:
        return None
    described = []
    with panel((420, 60 + 60 * len(rows))) as (figure, axes):
        for height, (label, values, limits) in enumerate(rows):
            by_quantile = dict(zip(quantiles, values, strict=True))
            _spread(axes, height, by_quantile)
            described.append(f"{label} from {number_text(values[0])} to {number_text(values[-1])}")
            for key, name in limits:
                threshold = _part(manifest, "thresholds", key)
                if isinstance(threshold, int | float):
                    axes.plot([threshold] * 2, [height - 0.36, height + 0.36], color=INK, linewidth=1.4)
                    axes.text(threshold, height - 0.4, name, ha="center", va="bottom")
                    described.append(f"{name} at {number_text(threshold)}")
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(rows) - 0.5, -0.75)
        axes.grid(visible=False)
        axes.set_xlabel("CLIP score")
        svg = inline(figure, "curation-scores", f"CLIP scores: {'; '.join(described)}.")
    label = "CLIP scores: range, middle 90 %, middle half and median, with the thresholds"
    return FigureGroup("curation", (), (Panel(label, svg),))


def _spread(axes: Any, height: float, values: dict[float, float]) -> None:
    """Nested bars: full range, 5–95 %, quartiles; a dot at the median."""
    for low, high, width, alpha in ((0.0, 1.0, 1.2, 1.0), (0.05, 0.95, 5.0, 0.5), (0.25, 0.75, 13.0, 0.5)):
        if low in values and high in values:
            xs = [values[low], values[high]]
            axes.plot(xs, [height] * 2, color=MUTED, linewidth=width, alpha=alpha, solid_capstyle="butt")
    if 0.5 in values:
        axes.plot(values[0.5], height, "o", color=INK, markersize=5)
