"""What a run is trained on: the curated sets, or captions with the objects that they could name."""

from dataclasses import dataclass
from typing import Literal

from sare_jax.errors import UserError
from sare_jax.settings.building import above_zero, at_least


@dataclass(frozen=True)
class CuratedSamples:
    """D_neg, D_pos and D_sent as curation made them."""

    kind: Literal["curated"] = "curated"
    """The sets of the curate stage."""


@dataclass(frozen=True)
class ChoiceSamples:
    """Whole captions, and the objects that they could name, told apart by the base model's own answers."""

    kind: Literal["choices"] = "choices"
    """All captions of the curate stage; the base model's own answers tell which objects are present."""
    vocabulary: int = 0
    """Number of objects that can be chosen, the ones that captions most often name with "a" or "an"; 0 takes
    all."""
    questions: int = 0
    """Number of objects that the base model is asked about on an image: those that its caption names,
    then those that captions most often name together with these; 0 asks about all."""
    prompt: str = "{}"
    """Template of the question; {} stands for POPE's "Is there a … in the image?"."""
    certain: float = 2.0
    """Log-odds of Yes against No above which an object is present, and below whose negative it is absent."""
    answers: float = 1 / 3
    """Number of answers a caption that training keeps as they are."""
    answers_weight: float = 4.0
    """Factor of these answers' mean loss in L_sent; that of the captions has factor 1."""

    def check(self, where: str) -> None:
        """Refuses values out of range."""
        for key in ("vocabulary", "questions", "certain", "answers", "answers_weight"):
            at_least(getattr(self, key), 0, f"{where}.{key}")
        if self.answers_weight:
            above_zero(self.answers, f"{where}.answers")
        if "{}" not in self.prompt:
            raise UserError(f"{where}.prompt: must hold {{}} where the question goes")
