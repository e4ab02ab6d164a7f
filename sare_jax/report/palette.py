"""Colour, line style and marker of each run, the same in every figure and table.

Runs differ in line style and marker as well as in colour.

Figures are drawn in stand-in colours that `svg.inline` replaces by CSS variables, so that one drawing follows
the page from light to dark.
"""

from dataclasses import dataclass

from sare_jax.report.spec import ReportSpec

# Light and dark shade of the CSS variable --run-<position>; the first is the base model's. Told apart by
# people with any of the common colour-vision deficiencies, and at least 4.5:1 against the page.
SHADES = (
    ("#5f6772", "#a3acb8"),
    ("#a85d00", "#eeab52"),
    ("#1c5aa6", "#7db4f5"),
    ("#8b3f9b", "#d59be3"),
    ("#0b7264", "#54c7b3"),
    ("#9c3d54", "#f095a8"),
    ("#5d6b1c", "#b9c765"),
)
INK, MUTED, HAIR = "#0a0001", "#0a0002", "#0a0003"


@dataclass(frozen=True)
class Look:
    """How a run is drawn.

    Attributes:
      index: number in the name of its CSS variable, `--run-INDEX`.
      color: stand-in colour for matplotlib, as `#rrggbb`.
      dash: matplotlib line style.
      marker: matplotlib marker; empty for none.
      filled: whether the mark is filled. Dashed and hollow is without ρ, solid and filled with ρ.
    """

    index: int
    color: str
    dash: str
    marker: str
    filled: bool


_FORMS = (
    (":", "", True),
    ("--", "o", False),
    ("-", "o", True),
    ("--", "s", False),
    ("-", "s", True),
    ("--", "^", False),
    ("-", "^", True),
)


def look(spec: ReportSpec, run: str) -> Look:
    """The look of a run, by its position in the spec; after seven runs looks start again at the second."""
    return look_at(next(i for i, item in enumerate(spec.runs) if item.key == run))


def look_at(position: int) -> Look:
    """The look of the run at a position in the spec, from 0, which is the base model."""
    index = position if position < len(_FORMS) else 1 + (position - 1) % (len(_FORMS) - 1)
    dash, marker, filled = _FORMS[index]
    return Look(index, f"#0b000{index}", dash, marker, filled)


def variables() -> dict[str, str]:
    """Stand-in colour → name of the CSS variable that takes its place."""
    names = {f"#0b000{index}": f"--run-{index}" for index in range(len(SHADES))}
    return names | {INK: "--ink", MUTED: "--muted", HAIR: "--hair"}
