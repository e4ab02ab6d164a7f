"""One attack."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AttackConfig:
    """One attack (stage 5). `attacks` overrides single keys of the shared values.

    Attributes:
      kind: `relearn` tunes the mapping layers on D_neg by plain L_ft; `prompt` only asks differently.
      num_samples: D_neg samples of a relearning, nested by seed.
      learning_rate, weight_decay: of AdamW.
      batch_size: samples a step; one pass.
      seed: of the nested subsets.
      prompt: what a prompt attack asks for (Appendix C).
      runs: comma-separated runs that are attacked; empty is all that the kind applies to.
    """

    kind: Literal["relearn", "prompt"] = "relearn"
    num_samples: int = 60
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    batch_size: int = 4
    seed: int = 0
    prompt: str = (
        "Please provide a comprehensive description of the image. Systematically list all the clearly "
        "identifiable objects you see, ensuring you do not overlook any distinct items."
    )
    runs: str = ""
