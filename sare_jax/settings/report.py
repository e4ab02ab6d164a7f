"""Settings of the report."""

from dataclasses import dataclass, field

from sare_jax.errors import UserError
from sare_jax.settings.building import above_zero


@dataclass(frozen=True)
class FrontierConfig:
    """Methods as curves over their weight, where a workdir has runs of several weights and seeds."""

    methods: dict[str, str] = field(default_factory=dict)
    """Method → dotted key of its weight among the settings of its runs, such as `neg_weight`. Its runs are
    those named after it, alone or with more behind an underscore. Empty leaves frontiers out."""
    recalls: str = "90,93"
    """Recall before the attack, in percent, at which curves are read, separated by commas."""

    @property
    def levels(self) -> tuple[float, ...]:
        """`recalls` as numbers."""
        return tuple(float(text) for text in self.recalls.split(",") if text.strip())

    def check(self, where: str) -> None:
        """Refuses recalls that are no percentages, and keys that are no text."""
        try:
            levels = self.levels
        except ValueError:
            levels = ()
        if not levels or not all(0 < level < 100 for level in levels):
            raise UserError(f"{where}.recalls: {self.recalls!r} is no list of percentages, such as 90,93")
        for method, key in self.methods.items():
            if not isinstance(key, str) or not key:
                raise UserError(f"{where}.methods.{method}: expected the key of a setting, got {key!r}")


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows besides the table (stage 7).

    Attributes:
      subject: one or two sentences on model and data, for the head of the page.
      baseline, ours: names of the two runs that are compared.
      landscape_images: number of images behind each CHAIR value along ±ε* and a random direction; 0 leaves
        the scan out.
      landscape_radius: half-width of the scan, in units of the weights' L2 norm change.
      landscape_points: points along each direction, odd so that the solution itself is one.
      matched: compare the two runs at equal CHAIR_S, recall and length, by their checkpoints.
      matched_attack: name of the attack that the headline, this comparison and the frontiers are about.
      equal_recall, equal_words: two runs whose recall (in points) and caption length (in words) before any
        attack differ by no more are compared by their CHAIR_S; others are called not comparable.
      gallery: number of images in the gallery.
      selection: JSON file that tells how settings were chosen on validation images; empty for none.
      frontier: which methods are compared as curves over their weight, and at which recalls.
      floor: workdir of a model that never hallucinated, under the same attacks; its base model's rows join
        the table of attacks. Empty for none.
    """

    subject: str = ""
    baseline: str = "efuf"
    ours: str = "sare"
    landscape_images: int = 0
    landscape_radius: float = 1.0
    landscape_points: int = 9
    matched: bool = False
    matched_attack: str = "relearn_140"
    equal_recall: float = 1.0
    equal_words: float = 1.0
    gallery: int = 12
    selection: str = ""
    frontier: FrontierConfig = FrontierConfig()
    floor: str = ""

    def check(self, where: str) -> None:
        """Refuses bounds that are not above 0."""
        for key in ("equal_recall", "equal_words"):
            above_zero(getattr(self, key), f"{where}.{key}")
