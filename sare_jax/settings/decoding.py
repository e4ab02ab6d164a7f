"""How captions are decoded."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DecodingConfig:
    """How captions are decoded, in stages 1, 4 and 5; yes/no answers are always greedy.

    Attributes:
      num_beams: 1 is greedy (or sampling); the lineage's evaluation has 5 (protocols 1.8).
      length_penalty: a finished beam's summed log-probability is divided by its length to this power.
      early_stopping: `no`, `yes` or `never`, as transformers' False, True and "never".
      temperature: 0 takes the likeliest token; above, tokens are drawn, each row by its own seed.
      top_k: draw from the so many likeliest tokens; 0 from all.
      top_p: draw from the likeliest tokens that together have this probability.
      seed: of the draws.
      stop: strings that end an answer; they are cut off.
    """

    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: Literal["no", "yes", "never"] = "no"
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


GREEDY = DecodingConfig()
