"""The scores of grounded and of hallucinated objects side by side, as a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sare_jax import files
from sare_jax.curation.audit import auc
from sare_jax.curation.extraction import Scored
from sare_jax.curation.truth import Marks, Truth
from sare_jax.errors import UserError

FORMATS = (".svg", ".png", ".pdf")
_BINS = 30
_PRESENT, _ABSENT, _INK = "#2b6cb0", "#c05621", "#333333"


def check_format(path: Path) -> None:
    """Raises `UserError` where a figure's name ends in none of `FORMATS`."""
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: the figure's name must end in {', '.join(FORMATS)}")


def judged_scores(kept: Sequence[Scored], truth: Truth | Marks) -> tuple[np.ndarray, np.ndarray]:
    """Scores float64[n] of the objects with a known verdict, and bool[n], whether each is in its image.

    Raises:
      UserError: the truth knows present objects alone, absent ones alone, or none.
    """
    rows = [
        (float(score), verdict)
        for entry in kept
        for unit, score in zip(entry.units, entry.scores, strict=True)
        if (verdict := truth.verdict(entry.caption, unit)) is not None
    ]
    scores = np.array([score for score, _ in rows], np.float64)
    present = np.array([verdict for _, verdict in rows], bool)
    if not present.any() or present.all():
        raise UserError(
            f"the truth finds {int(present.sum())} objects in their images and {int((~present).sum())} not; "
            "a histogram needs both kinds"
        )
    return scores, present


def described(scores: np.ndarray, present: np.ndarray) -> str:
    """Number, mean and deviation of both kinds of scores, and the AUC, in one line."""
    grounded, absent = scores[present], scores[~present]
    return (
        f"grounded: {len(grounded)} objects, mean {grounded.mean():.2f}, deviation {grounded.std():.2f}; "
        f"hallucinated: {len(absent)}, mean {absent.mean():.2f}, deviation {absent.std():.2f}; "
        f"AUC {auc(scores, present):.3f}"
    )


def draw(
    scores: np.ndarray, present: np.ndarray, path: Path, *, model: str, limits: Mapping[str, float]
) -> None:
    """Draws both distributions, each with area 1, so that the rarer kind can be seen.

    Args:
      scores: float[n], CLIP scores of the objects.
      present: bool[n], whether each object is in its image.
      path: file to write; its ending, one of `FORMATS`, is the format.
      model: name of the CLIP model, written at the axis.
      limits: name of a threshold → its score, drawn as a vertical line.

    Raises:
      UserError: the path ends in none of `FORMATS`.
    """
    check_format(path)
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(scores.min(), np.nextafter(scores.max(), np.inf), _BINS + 1).tolist()
    for kept, colour, name in ((present, _PRESENT, "grounded"), (~present, _ABSENT, "hallucinated")):
        label = f"{name} ({int(kept.sum()):,} objects, mean {scores[kept].mean():.1f})"
        axes.hist(scores[kept], edges, density=True, color=colour, alpha=0.35)
        axes.hist(
            scores[kept], edges, density=True, color=colour, histtype="step", linewidth=1.6, label=label
        )
    top = axes.get_ylim()[1] * 1.12
    axes.set_ylim(0, top)
    for name, value in limits.items():
        axes.axvline(value, color=_INK, linewidth=1.0, linestyle="--")
        axes.annotate(
            f"{name} = {value:.2f}",
            (value, top),
            xytext=(4, -3),
            textcoords="offset points",
            color=_INK,
            fontsize=8,
            va="top",
            rotation=90,
        )
    axes.set_xlabel(f"score S(o) under {model}")
    axes.set_ylabel("share of its kind per unit")
    axes.set_title(f"Scores of named objects; AUC {auc(scores, present):.3f}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    # The same scores give the same file: no date, and names that do not change.
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with files.replacing(path) as draft, matplotlib.rc_context({"svg.hashsalt": "sare_jax"}):
        figure.savefig(draft, format=path.suffix[1:], dpi=150, metadata=metadata)
