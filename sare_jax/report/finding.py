"""A sentence of the report."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["better", "worse", "none", "open", "note"]


@dataclass(frozen=True)
class Finding:
    """A claim, the numbers that it rests on, and its drift.

    Attributes:
      claim: the sentence, without a full stop.
      numbers: what it rests on; may be empty.
      verdict: `better` and `worse` are of the run named first, `none` no difference that can be told, `open`
        not measured, `note` a fact without a side.
    """

    claim: str
    numbers: str
    verdict: Verdict

    @property
    def text(self) -> str:
        """Claim and numbers as one sentence."""
        return f"{self.claim}: {self.numbers}." if self.numbers else f"{self.claim}."
