"""What the report shows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows besides the table (stage 7).

    Attributes:
      subject: one or two sentences on model and data, for the head of the page.
      baseline, ours: the two runs that are held against each other.
      landscape_images: images of each CHAIR value along ±ε* and a random direction; 0 leaves it out.
      landscape_radius: half-width of the scan, in units of the weights' L2 norm change.
      landscape_points: points along each direction, odd so that the solution itself is one.
      matched: compare the two runs at equal CHAIR_S and at equal length, by their checkpoints.
      matched_attack: name of the attack used in that comparison.
      gallery: images in the gallery.
      selection: JSON file that tells how settings were chosen on validation images; empty for none.
    """

    subject: str = ""
    baseline: str = "efuf"
    ours: str = "sare"
    landscape_images: int = 0
    landscape_radius: float = 1.0
    landscape_points: int = 9
    matched: bool = False
    matched_attack: str = "relearn_140"
    gallery: int = 12
    selection: str = ""
