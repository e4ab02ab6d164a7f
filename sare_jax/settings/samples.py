"""What a run is trained on: the curated sets, or the choices that its captions had."""

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
    """All captions of the curate stage; which objects are present the base model says itself."""
    vocabulary: int = 0
    """Objects that can be chosen: so many of those that captions most often name with "a" or "an"; 0 takes
    all."""
    questions: int = 0
    """Objects of the vocabulary that the base model is asked about on an image: those that its caption names,
    then those that captions most often name together with these; 0 asks about all."""
    prompt: str = "{}"
    """The question as it is put; {} stands for POPE's own."""
    certain: float = 2.0
    """Log-odds of Yes against No above which an object is present, and below whose negative it is absent."""
    answers: float = 1 / 3
    """Answers to such questions that are held where they are, for each caption."""
    answers_weight: float = 4.0
    """Weight of their mean in L_sent, beside 1 of the captions' mean."""

    def check(self, where: str) -> None:
        """Refuses values out of range."""
        for key in ("vocabulary", "questions", "certain", "answers", "answers_weight"):
            at_least(getattr(self, key), 0, f"{where}.{key}")
        if self.answers_weight:
            above_zero(self.answers, f"{where}.answers")
        if "{}" not in self.prompt:
            raise UserError(f"{where}.prompt: must hold {{}} where the question goes")
